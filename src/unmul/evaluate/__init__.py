"""How well a model predicts text: bits per byte."""

from unmul.evaluate.bits import Bits, Document, measure

__all__ = ["Bits", "Document", "measure"]
