"""How well a model predicts text: bits per byte."""

from unmul.evaluate.bits import Bits, Document, Predictor, measure
from unmul.evaluate.text import measure_texts, open_any

__all__ = ["Bits", "Document", "Predictor", "measure", "measure_texts", "open_any"]
