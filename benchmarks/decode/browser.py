"""Decode and prefill of the page that tools/web.py builds, in headless Chromium, beside the native engine.

    python benchmarks/decode/browser.py [--rounds 5] [--out benchmarks/reports]

The embedded model, one thread. Rounds alternate between the engines, so that other load on the machine meets all of
them. The page's tests run first, and nothing is measured if they fail. Writes browser_<machine>_<date>.md and .json.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from engine import REPOSITORY, describe, write_report
from playwright.sync_api import Browser, Page, sync_playwright

from unmul.checkpoint import PackedCheckpoint
from unmul.engine.choose import ISA_VARIABLE
from unmul.engine.cpu import CpuEngine
from unmul.runtime.model import embedded_model

sys.path.insert(0, str(REPOSITORY / "tools"))
import web

CHECK = "tests/web"
PROMPT, NEW = 512, 512
Rates = dict[str, float]
MEASURE = """([prompt, count]) => {
  engine.begin();
  const start = performance.now();
  engine.read(prompt);
  const read = performance.now();
  for (let k = 0; k < count; ++k) engine.read([prompt[k]]);
  const end = performance.now();
  return {prefill: 1000 * prompt.length / (read - start), decode: 1000 * count / (end - read)};
}"""


def main() -> None:
    """Check, measure in turn, write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "reports")
    options = parser.parse_args()
    check()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        runners = engines(browser, Path(folder) / "unmul.html")
        rounds = [{name: run() for name, run in runners.items()} for _ in range(options.rounds + 1)][1:]
        document = describe() | {"browser": f"Chromium {browser.version}", "rounds": rounds}
        browser.close()
    print(write_report(options.out, "browser", document, report(document)))


def check() -> None:
    """Stop unless the page's tests pass: a wrong engine has no speed."""
    if subprocess.run([sys.executable, "-m", "pytest", CHECK], cwd=REPOSITORY).returncode != 0:
        sys.exit(f"{CHECK} fails: nothing was measured")


def engines(browser: Browser, path: Path) -> dict[str, Callable[[], Rates]]:
    """What takes turns: the page with and without relaxed SIMD, the native engine at its best and its plainest."""
    path.write_text(web.page(embedded_model(), web.modules(REPOSITORY / "build" / "web")), "utf-8")
    relaxed, plain = opened(browser, path, ""), opened(browser, path, "WebAssembly.validate = () => false")
    native, scalar = CpuEngine(PackedCheckpoint.open(embedded_model()), threads=1), plainest()
    return {
        "page, wasm_relaxed_simd": lambda: in_page(relaxed),
        "page, wasm_simd": lambda: in_page(plain),
        f"native, {native.isa}": lambda: in_process(native),
        "native, scalar": lambda: in_process(scalar),
    }


def plainest() -> CpuEngine:
    """The native engine without any instruction set."""
    os.environ[ISA_VARIABLE] = "scalar"
    try:
        return CpuEngine(PackedCheckpoint.open(embedded_model()), threads=1)
    finally:
        del os.environ[ISA_VARIABLE]


def opened(browser: Browser, path: Path, script: str) -> Page:
    """The page with its model loaded."""
    page = browser.new_page()
    page.add_init_script(script)
    page.goto(path.as_uri())
    page.locator("#write:enabled").wait_for()
    return page


def in_page(page: Page) -> Rates:
    """Tokens/s of one run in a page."""
    return page.evaluate(MEASURE, [list(range(PROMPT)), NEW])


def in_process(engine: CpuEngine) -> Rates:
    """Tokens/s of the same run in this process."""
    state = engine.new_state()
    start = time.perf_counter()
    engine.forward(range(PROMPT), state)
    read = time.perf_counter()
    for token in range(NEW):
        engine.forward([token], state)
    end = time.perf_counter()
    return {"prefill": PROMPT / (read - start), "decode": NEW / (end - read)}


def report(document: dict[str, Any]) -> str:
    """The report as Markdown."""
    where, rounds = document["machine"], document["rounds"]
    lines = [
        f"# The engine in the browser, {where['cpu']}, {document['date']}",
        "",
        f"Commit {document['commit']}; {document['browser']}; {where['cores']} cores, load {where['load']};",
        f"{where['system']}. Command: `{' '.join(['python', *document['command']])}`. The embedded model, one thread,",
        f"prompt {PROMPT}, then {NEW} tokens one by one, without sampling and drawing; tokens/s, median of",
        f"{len(rounds)} rounds in turn [least, most].",
        "",
        "| engine | decode | prefill |",
        "|---|---|---|",
    ]
    for name in rounds[0]:
        cells = [spread([each[name][what] for each in rounds]) for what in ("decode", "prefill")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def spread(values: list[float]) -> str:
    """Median [least, most]."""
    return f"{median(values):,.0f} [{min(values):,.0f}, {max(values):,.0f}]"


if __name__ == "__main__":
    main()
