"""serve.worker: one thread owns the engine, the queue has a limit, and the end is orderly."""

import threading

import pytest
from servers import Arithmetic, job_for

from unmul.errors import UsageError
from unmul.serve.cache import StateCache
from unmul.serve.scheduler import Scheduler
from unmul.serve.worker import BusyError, ClosingError, Worker

LONGEST_S = 30


class Gated(Arithmetic):
    """An engine whose steps wait until they are let through."""

    def __init__(self):
        super().__init__()
        self.entered, self.gate = threading.Semaphore(0), threading.Semaphore(0)

    def step(self, ids, states):
        self.entered.release()
        assert self.gate.acquire(timeout=LONGEST_S)
        return super().step(ids, states)

    def open(self):
        self.gate.release(10**6)


@pytest.fixture
def engine():
    return Gated()


@pytest.fixture
def worker(engine):
    worker = Worker(Scheduler(engine, StateCache(0), slots=2), queue=3)
    yield worker
    engine.open()
    worker.close()


def test_jobs_from_many_threads_end_as_they_would_alone(worker, engine):
    engine.open()
    jobs = [job_for([k, k + 1, 2], new=20) for k in range(12)]

    def ask(mine):
        for job, log in mine:
            worker.submit([job])
            assert log.ended.wait(LONGEST_S)

    threads = [threading.Thread(target=ask, args=(jobs[k::3],)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for job, log in jobs:
        state = engine.new_state()
        expected = [int(engine.forward(job.ids, state).argmax())]
        while len(expected) < 20:
            expected.append(int(engine.forward(expected[-1:], state).argmax()))
        assert log.tokens == expected


def test_a_full_queue_refuses_whole_requests_and_says_when_to_come_back(worker, engine):
    worker.submit([job_for([k], new=3)[0] for k in range(2)])
    assert engine.entered.acquire(timeout=LONGEST_S)
    worker.submit([job_for([k], new=3)[0] for k in range(2)])
    with pytest.raises(BusyError, match="2 requests wait already: try again in 1 s") as caught:
        worker.submit([job_for([k])[0] for k in range(2)])
    assert caught.value.retry_after == 1
    assert worker.waiting == 2
    worker.submit([job_for([9])[0]])


def test_a_request_that_never_fits_is_not_told_to_come_back(worker):
    with pytest.raises(UsageError, match="4 prompts in one request: send at most 3"):
        worker.submit([job_for([k])[0] for k in range(4)])


def test_the_end_waits_for_texts_and_takes_no_more(worker, engine):
    job, log = job_for([1], new=5)
    worker.submit([job])
    assert engine.entered.acquire(timeout=LONGEST_S)
    worker.drain(LONGEST_S)
    with pytest.raises(ClosingError):
        worker.submit([job_for([2])[0]])
    engine.open()
    assert log.ended.wait(LONGEST_S)
    assert len(log.tokens) == 5


def test_at_the_deadline_texts_return_what_they_have(worker, engine):
    job, log = job_for([1], new=10**6)
    worker.submit([job])
    engine.gate.release(3)
    for _ in range(4):
        assert engine.entered.acquire(timeout=LONGEST_S)
    worker.drain(0)
    engine.gate.release()
    assert log.ended.wait(LONGEST_S)
    assert (log.finish, len(log.tokens)) == ("length", 4)


def test_closing_an_idle_worker_ends_its_thread():
    worker = Worker(Scheduler(Arithmetic(), StateCache(0), slots=1), queue=1)
    worker.close()
    assert not worker._thread.is_alive()
