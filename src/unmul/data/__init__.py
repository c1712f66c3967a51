"""From text files to batches of token ids: text -> tokenizer -> shards -> batches."""

from unmul.data.batches import Batches
from unmul.data.shards import Shards, Source, open_shards
from unmul.data.text import END, read_documents

__all__ = ["END", "Batches", "Shards", "Source", "open_shards", "read_documents"]
