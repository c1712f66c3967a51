"""Fuzz one target: PYTHONPATH=tests python -m fuzz TARGET [libFuzzer flags, such as -max_total_time=600].

A fault ends it: the exception, and the input as a file crash-... in the current folder.
"""

import gc
import os
import resource
import sys
from pathlib import Path
from types import FunctionType

import atheris
from fuzz.mutate import mutate
from fuzz.targets import TARGETS, Target, temporary

MEMORY = 2**33  # of addresses: an allocation that a file of a few kilobytes asked for fails
FLAGS = ["-timeout=20", "-rss_limit_mb=1024", "-print_final_stats=1"]


def run(target: Target, flags: list[str]) -> None:
    """Hand over to libFuzzer, which ends the process."""
    corpus = target.folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)

    def change(data: bytes, limit: int, seed: int) -> bytes:
        return mutate(data, limit, seed, target.parts, atheris.Mutate)

    for function in [each for each in gc.get_objects() if isinstance(each, FunctionType)]:
        if (function.__module__ or "").startswith("unmul."):  # import hooks of atheris pass editable installs over
            atheris.instrument_func(function)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    atheris.Setup([sys.argv[0], *FLAGS, *flags, str(corpus)], target, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m fuzz {'|'.join(TARGETS)} [libFuzzer flags]")
    with temporary() as folder:
        child = os.fork()  # libFuzzer ends the process that it runs in, and the folder would stay
        if child == 0:
            run(TARGETS[sys.argv[1]](Path(folder)), sys.argv[2:])
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
