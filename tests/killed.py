"""Writers killed as kill -9 does it, and what is on the disk after: python -m killed pack|session|train FOLDER.

A process of its own, because it forks: a writer is killed before each of its acts on the file system in turn, and after
random times. Raises where the old or the new file is not whole.
"""

import itertools
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
from models import latent_folder

from unmul.checkpoint import PackedCheckpoint, pack, read_latent
from unmul.runtime.state import fingerprint
from unmul.serve.scheduler import Context
from unmul.serve.sessions import read_context, write_context

ACTS = {"os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.chmod", "shutil.rmtree", "shutil.copyfile"}
MODEL = "sha256:0"

Work = Callable[[], object]


def killed(work: Work, *, before: int = 0, after: float = 0) -> bool:
    """Do the work in a process that is killed before that act on the file system, or after so many seconds.

    Whether it was: it may have ended before. Raises if it failed.
    """
    child = os.fork()
    if child == 0:
        _work(work, before)
    if after:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the work itself failed"
    return os.WIFSIGNALED(status)


def _work(work: Work, before: int) -> None:
    acts = itertools.count(1)

    def watch(event: str, arguments: tuple) -> None:
        writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (event in ACTS or writes) and next(acts) == before:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def everywhere(write: Work, check: Work) -> int:
    """Kill a write before each of its acts, and check each time; how many there were."""
    for act in itertools.count(1):
        if not killed(write, before=act):
            return act - 1
        check()


def any_time(writes: list[Work], check: Work, tries: int, longest: float) -> None:
    """Kill a process that writes again and again after random times, and check each time."""

    def forever() -> None:
        for write in itertools.cycle(writes):
            write()

    chance = random.Random(0)
    for _ in range(tries):
        assert killed(forever, after=chance.uniform(0, longest))
        check()


def of_pack(folder: Path) -> None:
    """Pack over an older packed folder."""
    target, whole = folder / "packed", set()
    sources = [latent_folder(folder / f"latent-{seed}", seed=seed) for seed in range(2)]
    writes = [lambda source=source: pack(source, target) for source in sources]
    for write in reversed(writes):
        write()
        whole.add(fingerprint(target))

    def check() -> None:
        PackedCheckpoint.open(target)
        assert fingerprint(target) in whole

    assert everywhere(writes[1], check) > 5
    any_time(writes, check, tries=20, longest=0.1)


def of_session(folder: Path) -> None:
    """Save a session over its older self."""
    contexts = [Context(np.full((2, 500), value, np.float32), [value], []) for value in range(2)]
    path = folder / "tale.session"
    writes = [lambda context=context: write_context(path, context, MODEL) for context in contexts]
    writes[0]()

    def check() -> None:
        found = read_context(path, contexts[0].state, MODEL)
        assert (found.state == found.unread[0]).all()

    assert everywhere(writes[1], check) > 2
    any_time(writes, check, tries=20, longest=0.05)


def of_train(folder: Path) -> None:
    """Save a checkpoint after every step of a run, and go on with it after each death."""
    from unmul.train import load_recipe, run
    from unmul.train.state import latest

    out, chance = folder / "out", random.Random(0)

    def go_on() -> None:
        run(load_recipe(folder / "tiny.toml"), out=out, resume=True, lines=True)

    def check() -> None:
        for step in out.glob("step-*"):
            read_latent(step)
            assert (step / "resume" / ".metadata").is_file()

    for act in range(20, 170, 37):  # of the shards, of the first checkpoint, of one that replaces another
        assert killed(go_on, before=act)
        check()
    assert latest(out)
    for _ in range(2):
        killed(go_on, after=chance.uniform(0.2, 0.6))
        check()
    assert not killed(go_on)
    assert latest(out).name == "step-0000020"
    assert not list(out.glob(".step-*"))


if __name__ == "__main__":
    {"pack": of_pack, "session": of_session, "train": of_train}[sys.argv[1]](Path(sys.argv[2]))
