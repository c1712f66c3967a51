"""From text files to batches of token ids: text -> tokenizer -> shards -> batches."""

from unmul.data.text import END, read_documents

__all__ = ["END", "read_documents"]
