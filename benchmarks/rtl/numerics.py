"""Bits per byte of the accelerator's twin beside the CPU engine's float32, and how many elements did not fit.

    python benchmarks/rtl/numerics.py TEXT... [--model FOLDER] [--out benchmarks/reports]

Writes rtl_numerics_<date>.md and .json. TEXT as `unmul eval --text` reads it; the model is the default one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unmul.data import read_documents
from unmul.data.tokenizer import encode_all
from unmul.evaluate import Document, measure, open_any
from unmul.files import write_text
from unmul.runtime import embedded_model, folder_tokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "decode"))
from engine import REPOSITORY, describe

HEAD = """\
| text | tokens | bytes | CPU engine | twin | | saturated |
| --- | --- | --- | --- | --- | --- | --- |"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("text", type=Path, nargs="+")
    parser.add_argument("--model", type=Path, default=embedded_model())
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "reports")
    options = parser.parse_args()
    texts = [compare(options.model, text) for text in options.text]
    found = describe() | {"model": options.model.name, "texts": texts}
    path = options.out / f"rtl_numerics_{found['date']}.md"
    write_text(path.with_suffix(".json"), json.dumps(found, indent=2) + "\n")
    write_text(path, markdown(found))
    print(path)


def compare(model: Path, text: Path) -> dict[str, Any]:
    """Both engines on one text."""
    cpu, twin = open_any(model), open_any(model, "twin")
    texts = encode_all(folder_tokenizer(model, cpu.config), read_documents([text]))
    documents = [Document(ids, size) for ids, size in texts]
    (*_, floats), (*_, integers) = (measure(each, documents, cpu.config.begin_token_id) for each in (cpu, twin))
    return {
        "text": text.name,
        "tokens": floats.tokens,
        "bytes": floats.bytes,
        "cpu_bits_per_byte": floats.bits_per_byte,
        "twin_bits_per_byte": integers.bits_per_byte,
        "saturations": twin.saturations,
    }


def markdown(found: Mapping[str, Any]) -> str:
    """The report."""
    about = (
        f"{found['model']}; commit {found['commit']}. Bits per byte of the CPU engine in float32 and of the\n"
        "accelerator's twin, which its Verilog equals to the bit; elements that did not fit int32."
    )
    lines = [
        f"| {each['text']} | {each['tokens']:,} | {each['bytes']:,} | {each['cpu_bits_per_byte']:.5f} "
        f"| {each['twin_bits_per_byte']:.5f} | {each['twin_bits_per_byte'] / each['cpu_bits_per_byte'] - 1:+.4%} "
        f"| {each['saturations']} |"
        for each in found["texts"]
    ]
    return "\n\n".join([f"# The accelerator's numbers, {found['date']}", about, "\n".join([HEAD, *lines])]) + "\n"


if __name__ == "__main__":
    main()
