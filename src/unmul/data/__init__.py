"""From text to batches of token ids: files or a dataset -> tokenizer -> shards -> batches."""

from unmul.data.batches import Batch, Batches
from unmul.data.dataset import Dataset
from unmul.data.shards import Shards, open_shards
from unmul.data.source import Files, Source, read_documents
from unmul.data.text import END

__all__ = ["END", "Batch", "Batches", "Dataset", "Files", "Shards", "Source", "open_shards", "read_documents"]
