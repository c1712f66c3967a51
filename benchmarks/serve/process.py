"""A server in a process of its own, for what measures it from outside; and models that it can serve."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from unmul.config import preset
from unmul.engine.bench import write_random
from unmul.runtime import embedded_model, tiny_model

__all__ = ["Served", "model_folder", "serving"]

END_S = 60


@dataclass(frozen=True)
class Served:
    """A running server."""

    url: str
    model: str
    backend: str
    state_bytes: int
    pid: int

    def rss_bytes(self) -> int:
        """Memory of the process that is in use now."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        return int(found[1]) * 1024 if found else 0


@contextmanager
def serving(folder: Path, *flags: str) -> Iterator[Served]:
    """`unmul serve` of a folder on a free port of this machine, ended at the end."""
    command = [sys.executable, "-m", "unmul", "serve", str(folder), "--port", "0", "--json", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Served(**_ready(process), pid=process.pid)
        finally:
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _ready(process: subprocess.Popen[str]) -> dict[str, str]:
    lines = ""
    assert process.stdout
    for line in process.stdout:
        lines += line
        if line.startswith("}"):
            return json.loads(lines)
    raise SystemExit("the server did not start")


@contextmanager
def model_folder(name: str) -> Iterator[Path]:
    """A packed folder: "default", "tiny", a folder, or a preset's shape with random weights, a word for each token."""
    known = {"default": embedded_model, "tiny": tiny_model}
    if name in known or Path(name).is_dir():
        yield known[name]() if name in known else Path(name)
        return
    config = preset(name)
    with tempfile.TemporaryDirectory(prefix="unmul-bench-") as temporary:
        folder = Path(temporary) / name
        write_random(folder, config)
        words = Tokenizer(models.WordLevel({f"w{k}": k for k in range(config.vocab_size)}, unk_token="w0"))
        words.pre_tokenizer = pre_tokenizers.Whitespace()
        words.decoder = decoders.Fuse()
        words.save(str(folder / "tokenizer.json"))
        yield folder
