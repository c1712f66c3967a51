"""Several processes of a run, as torchrun starts them, for tests."""

import os
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import torch.distributed as dist
import torch.multiprocessing as multiprocessing

__all__ = ["Failure", "on_two"]

SECONDS = 180  # a call that takes so long hangs


class Failure(str):
    """How a call ended on one process: name of the exception, then its message."""


def on_two(calls: Sequence[Callable[[], Any]]) -> list[tuple[Any, Any]]:
    """Make the calls one after the other on two processes; what each process returns for each, or its Failure.

    Calls return plain values. One that fails on a process while the other waits for it is the last of all: the other
    goes on when that process ends.
    """
    context = multiprocessing.get_context("spawn")
    answers, stores = context.Queue(), [dist.TCPStore("127.0.0.1", 0, is_master=True) for _ in calls]
    ports = [store.port for store in stores]
    processes = [context.Process(target=_child, args=(rank, ports, answers, calls)) for rank in range(2)]
    for process in processes:
        process.start()
    try:
        found = dict(answers.get(timeout=SECONDS) for _ in processes)
        return list(zip(found[0], found[1], strict=True))
    finally:
        for process in processes:
            process.join(10)
            process.kill()


def _child(rank: int, ports: Sequence[int], answers: Any, calls: Sequence[Callable[[], Any]]) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    answers.put((rank, [_outcome(call, port) for call, port in zip(calls, ports, strict=True)]))


def _outcome(call: Callable[[], Any], port: int) -> Any:
    os.environ["MASTER_PORT"] = str(port)
    try:
        return call()
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        return Failure(f"{type(error).__name__} {error}")
    finally:
        if dist.is_initialized():  # as the end of a process would
            dist.destroy_process_group()
