"""Builds the page that carries an engine and a model: one HTML file that runs offline, by a double click or on a phone.

    python tools/web.py [FOLDER] [--out build/web/unmul.html]

FOLDER is a packed model, the embedded one when left out. Needs `pip install '.[web]'`: ziglang, a C++ compiler for
WebAssembly. The first run takes minutes, for it compiles a C++ library too.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from unmul.checkpoint import TOKENIZER, PackedCheckpoint
from unmul.errors import UnmulError
from unmul.files import atomic_file, write_text
from unmul.runtime.model import embedded_model

REPOSITORY = Path(__file__).resolve().parent.parent
CSRC, WEB = REPOSITORY / "csrc", REPOSITORY / "web"
SOURCES = (
    "activations", "arena", "bpe", "checkpoint", "config", "errors", "json", "layout", "mapped_file", "model", "pass",
    "pool_alone", "sampler", "sha256", "tensors", "unmul", "utf8", "kernels/dispatch", "kernels/scalar",
    "kernels/wasm_simd",
)  # fmt: skip
EXPORTS = (
    "malloc", "free", "unmul_model_open_memory", "unmul_model_get_info", "unmul_forward", "unmul_sampler_new",
    "unmul_sampler_free", "unmul_sample", "unmul_tokenizer_open_memory", "unmul_encode", "unmul_token_bytes",
)  # fmt: skip
FLAGS = (
    "-target", "wasm32-wasi", "-std=c++20", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-exceptions",
    "-fno-rtti", "-Wall", "-Wextra", "-Wno-psabi", "-s",
)  # fmt: skip
SIMD = {"plain": ("-msimd128",), "relaxed": ("-msimd128", "-mrelaxed-simd")}


def main() -> None:
    """Compile, put together, say how to open it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "build" / "web" / "unmul.html")
    options = parser.parse_args()
    try:
        folder = PackedCheckpoint.open(options.folder or embedded_model()).folder
        write_text(options.out, page(folder, modules(options.out.parent)))
    except UnmulError as error:
        sys.exit(f"error: {error}")
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB; open it in a browser")


def modules(folder: Path) -> dict[str, bytes]:
    """The engine as WebAssembly, with relaxed SIMD and without; compiled unless newer than every source."""
    folder.mkdir(parents=True, exist_ok=True)
    newest = max(path.stat().st_mtime for path in (Path(__file__), *CSRC.rglob("*.*")))
    built = {}
    for name in SIMD:
        target = folder / f"{name}.wasm"
        if not target.exists() or target.stat().st_mtime < newest:
            exports = [f"-Wl,--export={export}" for export in EXPORTS]
            module = compiled(name, SOURCES, "-mexec-model=reactor", *exports)
            with atomic_file(target) as handle:
                handle.write(module)
        built[name] = target.read_bytes()
    return built


def compiled(simd: str, sources: tuple[str, ...], *flags: str) -> bytes:
    """One WebAssembly module from files of csrc."""
    files = [str(CSRC / f"{name}.cpp") for name in sources]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "module.wasm"
        command = [sys.executable, "-m", "ziglang", "c++", *FLAGS, *SIMD[simd], *flags, *files, "-o", str(target)]
        if subprocess.run(command, check=False).returncode != 0:
            sys.exit("the compiler failed (pip install '.[web]' brings it)")
        return target.read_bytes()


def page(folder: Path, modules: dict[str, bytes]) -> str:
    """The whole page around a packed folder and the modules."""
    names = {"config": "config.json", "weights": "model.safetensors", "tokenizer": TOKENIZER}
    contents = modules | {key: (folder / name).read_bytes() for key, name in names.items()}
    files = {"name": model_name(folder)} | {key: packed(content) for key, content in contents.items()}
    server = (REPOSITORY / "src/unmul/serve/page.html").read_text("utf-8")
    parts = {
        "/* style of the server's page */\n": server.partition("<style>\n")[2].partition("</style>")[0],
        "<!-- form and figures of the server's page -->\n": form(server),
        "/* engine.js */\n": (WEB / "engine.js").read_text("utf-8"),
        "{/* files of the packed folder and WebAssembly modules, compressed */}": json.dumps(files).replace(
            "<", r"\u003c"
        ),
    }
    text = (WEB / "page.html").read_text("utf-8")
    for mark, content in parts.items():
        before, after = text.split(mark)
        text = before + content + after
    return text


def form(server: str) -> str:
    """The server's page from its line for errors to its figures, without the lines that only a server has a use for."""
    start, end = server.index('<p id="error"'), server.index("<script>")
    return "".join(line for line in server[start:end].splitlines(keepends=True) if " data-server" not in line)


def packed(content: bytes) -> str:
    """Bytes as the page unpacks them."""
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


def model_name(folder: Path) -> str:
    """What the page calls the model."""
    return "the embedded model" if folder == embedded_model() else folder.resolve().name


if __name__ == "__main__":
    main()
