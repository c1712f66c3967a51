"""A model to talk to: an engine, its tokenizer and the state of one conversation."""

from unmul.runtime.model import DEFAULT_MODEL, Generation, Model, load

__all__ = ["DEFAULT_MODEL", "Generation", "Model", "load"]
