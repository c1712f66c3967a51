"""serve.sessions: contexts by name survive a restart to the bit, never mix, and take turns."""

import asyncio

import numpy as np
import pytest

from unmul.errors import CheckpointError, UsageError
from unmul.serve.scheduler import Context
from unmul.serve.sessions import Sessions, read_context, write_context

LIKE = np.zeros((2, 3), np.float32)


def context_of(value: float, unread=(5,)) -> Context:
    return Context(np.full_like(LIKE, value), list(unread))


def sessions(folder=None, *, most=10, model="m", shared=False) -> Sessions:
    return Sessions(LIKE, model, folder=folder, budget=most * LIKE.nbytes, shared=shared)


def equal(found: Context | None, expected: Context) -> bool:
    return (
        found is not None
        and np.array_equal(found.state, expected.state)
        and found.unread == expected.unread
        and found.unfinished == expected.unfinished
    )


@pytest.mark.parametrize("unread", [[], [7], [1, 2, 3]])
def test_a_context_survives_its_file_to_the_bit(tmp_path, unread):
    context = Context(np.random.default_rng(1).standard_normal((2, 3)).astype(np.float32), unread, unread[1:])
    write_context(tmp_path / "a.session", context, "m")
    assert equal(read_context(tmp_path / "a.session", LIKE, "m"), context)


def test_sessions_survive_a_restart(tmp_path):
    first = sessions(tmp_path / "new" / "folder")
    for k in range(20):
        first.keep("talk", context_of(k))
    first.keep("other", context_of(99, []))
    first.close()
    second = sessions(tmp_path / "new" / "folder")
    assert equal(second.load("talk"), context_of(19))
    assert equal(second.load("other"), context_of(99, []))
    second.close()


def test_memory_holds_the_most_recently_used_and_the_folder_the_rest(tmp_path):
    kept = sessions(tmp_path, most=2)
    for k in range(5):
        kept.keep(f"s{k}", context_of(k))
    assert len(kept) == 2
    for k in range(5):
        assert equal(kept.load(f"s{k}"), context_of(k))
    kept.close()


def test_without_a_folder_the_least_recently_used_is_forgotten():
    kept = sessions(most=2)
    kept.keep("a", context_of(1))
    kept.keep("b", context_of(2))
    kept.load("a")
    kept.keep("c", context_of(3))
    assert kept.load("b") is None
    assert equal(kept.load("a"), context_of(1))
    kept.close()


@pytest.mark.parametrize("shared", [False, True])
def test_what_a_killed_server_left_behind_is_removed_unless_another_may_be_writing_it(tmp_path, shared):
    (tmp_path / ".talk.session.tmp-ab12").write_bytes(b"half")
    (tmp_path / ".other").write_bytes(b"not ours")
    sessions(tmp_path, shared=shared).close()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == ({".other", ".talk.session.tmp-ab12"} if shared else {".other"})


def test_servers_that_share_a_folder_always_go_on_from_the_last_context(tmp_path):
    mine, theirs = (sessions(tmp_path, shared=True) for _ in range(2))
    for turn in range(4):
        (mine, theirs)[turn % 2].keep("talk", context_of(turn))
        assert equal(mine.load("talk"), context_of(turn))
        assert equal(theirs.load("talk"), context_of(turn))
    assert len(mine) == len(theirs) == 0
    mine.close()
    theirs.close()


def test_without_a_folder_there_is_nothing_to_share():
    kept = sessions(shared=True)
    kept.keep("talk", context_of(1))
    assert equal(kept.load("talk"), context_of(1))
    kept.close()


def test_a_folder_that_refuses_is_logged_and_memory_goes_on(tmp_path, caplog):
    kept = sessions(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    kept.keep("a", context_of(1))
    kept.close()
    assert "cannot be written" in caplog.text
    assert equal(kept.load("a"), context_of(1))


def test_a_session_of_another_model_is_refused(tmp_path):
    first = sessions(tmp_path)
    first.keep("talk", context_of(1))
    first.close()
    other = sessions(tmp_path, model="n")
    with pytest.raises(UsageError, match="session talk was made by another model: choose another name"):
        other.load("talk")
    other.close()


def test_a_damaged_session_is_named(tmp_path):
    (tmp_path / "talk.session").write_bytes(b"half")
    kept = sessions(tmp_path)
    with pytest.raises(CheckpointError, match=r"talk\.session is not a whole"):
        kept.load("talk")
    kept.close()


@pytest.mark.parametrize("name", ["", "../up", "a/b", "A", "a.b", "x" * 65, "a\n", "ü"])
def test_a_name_that_could_leave_the_folder_is_refused(name):
    with pytest.raises(UsageError, match="is not a name"):
        asyncio.run(sessions().take(name))


def test_requests_of_one_session_take_turns_in_their_order():
    kept, order = sessions(), []

    async def ask(k):
        before = await kept.take("talk")
        order.append((k, before and before.unread))
        await asyncio.sleep(0)
        kept.keep("talk", context_of(0, [k]))
        kept.release("talk")

    async def three():
        await asyncio.gather(*(ask(k) for k in range(3)))

    asyncio.run(three())
    assert order == [(0, None), (1, [0]), (2, [1])]
    assert not kept._turns
    kept.close()


def test_whoever_stops_waiting_leaves_the_turn_to_the_next():
    kept = sessions()

    async def three():
        await kept.take("talk")
        impatient, patient = (asyncio.create_task(kept.take("talk")) for _ in range(2))
        await asyncio.sleep(0)
        impatient.cancel()
        kept.keep("talk", context_of(1))
        kept.release("talk")
        assert equal(await patient, context_of(1))
        kept.release("talk")

    asyncio.run(three())
    assert not kept._turns
    assert equal(kept.load("talk"), context_of(1))
    kept.close()
