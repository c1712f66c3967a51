"""A Llama-architecture GGUF with the very matrices of a MatMul-free model, for engines that cannot run one.

Per layer four D x D, one gate and one up of I x D and one D x I, a ternary head, an F16 embedding; random codes.
Attention and KV cache are the stand-in's own cost; the report says so.

    python benchmarks/decode/standin.py FILE PRESET TYPE
"""

from __future__ import annotations

import sys
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType

from unmul.config import ModelConfig, preset

__all__ = ["write_standin"]

HEAD_WIDTH = 128
CONTEXT = 2048

Bytes = npt.NDArray[np.uint8]


def write_standin(path: Path, config: ModelConfig, kind: str) -> None:
    """Write the stand-in for a shape in TQ1_0, TQ2_0 or Q4_0; rows of random {-1, 0, 1} times one scale."""
    writer = gguf.GGUFWriter(path, "llama")
    _describe(writer, config)
    rng = np.random.default_rng(0)
    made: dict[tuple[int, int], Bytes] = {}  # speed does not depend on the codes: one random matrix a shape
    for name, shape in _matrices(config):
        if shape not in made:
            made[shape] = _quantised(rng, shape, kind)
        writer.add_tensor(name, made[shape], raw_dtype=GGMLQuantizationType[kind])
    for name in _norms(config):
        writer.add_tensor(name, np.ones(config.hidden_size, np.float32))
    embedding = rng.standard_normal((config.vocab_size, config.hidden_size), np.float32)
    writer.add_tensor("token_embd.weight", embedding.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: gguf.GGUFWriter, config: ModelConfig) -> None:
    heads = config.hidden_size // HEAD_WIDTH
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.ffn_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")


def _matrices(config: ModelConfig) -> list[tuple[str, tuple[int, int]]]:
    d, i = config.hidden_size, config.ffn_size
    shapes = {"attn_q": (d, d), "attn_k": (d, d), "attn_v": (d, d), "attn_output": (d, d)}
    shapes |= {"ffn_gate": (i, d), "ffn_up": (i, d), "ffn_down": (d, i)}
    layers = range(config.num_hidden_layers)
    named = [(f"blk.{layer}.{name}.weight", shape) for layer in layers for name, shape in shapes.items()]
    return [*named, ("output.weight", (config.vocab_size, d))]


def _norms(config: ModelConfig) -> list[str]:
    layers = range(config.num_hidden_layers)
    names = [f"blk.{layer}.{name}.weight" for layer in layers for name in ("attn_norm", "ffn_norm")]
    return [*names, "output_norm.weight"]


def _quantised(rng: np.random.Generator, shape: tuple[int, int], kind: str) -> Bytes:
    codes = rng.integers(-1, 2, shape, np.int8).astype(np.float32)
    return gguf.quants.quantize(codes * np.float32(0.02), GGMLQuantizationType[kind])


if __name__ == "__main__":
    write_standin(Path(sys.argv[1]), preset(sys.argv[2]), sys.argv[3])
