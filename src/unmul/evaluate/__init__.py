"""How good a model is: bits per byte of text, and task suites through lm-eval."""

from unmul.evaluate.bits import Bits, Document, Predictor, measure
from unmul.evaluate.folder import open_any, weights_checksum
from unmul.evaluate.tasks import run_tasks
from unmul.evaluate.text import TextBits, measure_texts

__all__ = [
    "Bits",
    "Document",
    "Predictor",
    "TextBits",
    "measure",
    "measure_texts",
    "open_any",
    "run_tasks",
    "weights_checksum",
]
