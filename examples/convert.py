"""A published MatMul-free checkpoint, as it lies in its Hugging Face folder, to a packed model that the engine runs.

    python examples/convert.py FOLDER PACKED

FOLDER holds config.json (model_type hgrn_bit), safetensors in one file or in shards, bf16 or float, and tokenizer.json.
The command line does the same: `unmul pack FOLDER PACKED`.
"""

from __future__ import annotations

import sys

import unmul
from unmul.errors import UnmulError


def main() -> None:
    """Pack, load what was packed, write a few words with it."""
    source, target = sys.argv[1:3]
    try:
        report = unmul.pack(source, target)
        model = unmul.load(target)
        text = "".join(model.generate("In a shocking finding,", max_new_tokens=20))
    except UnmulError as error:
        sys.exit(f"error: {error}")
    sizes = " -> ".join(f"{count / 1e6:.1f} MB" for count in (report.bytes_before, report.bytes_after))
    print(f"{sizes}, {report.bits_per_weight:.3f} bits a weight")
    print(f"{model.config.parameters:,} parameters on {model.backend}")
    print(f"In a shocking finding,{text}")


if __name__ == "__main__":
    main()
