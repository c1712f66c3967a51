"""A model to talk to: an engine, its tokenizer and the state of one conversation."""

from unmul.runtime.model import DEFAULT_MODEL, Generation, Model, embedded_model, load, tiny_model
from unmul.runtime.text import folder_tokenizer

__all__ = ["DEFAULT_MODEL", "Generation", "Model", "embedded_model", "folder_tokenizer", "load", "tiny_model"]
