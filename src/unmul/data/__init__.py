"""From text files to batches of token ids: text -> tokenizer -> shards -> batches."""

from unmul.data.batches import Batch, Batches
from unmul.data.shards import Shards, Source, open_shards
from unmul.data.text import END, read_documents

__all__ = ["END", "Batch", "Batches", "Shards", "Source", "open_shards", "read_documents"]
