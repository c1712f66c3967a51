"""serve.cache: states are found by the tokens before them, and by nothing else."""

import numpy as np

from unmul.serve.cache import StateCache, Trail, key_of

IDS = list(range(300))


def state_of(value: float) -> np.ndarray:
    return np.full((2, 4), value, np.float32)  # 32 bytes


def put(cache: StateCache, ids: list[int], state: np.ndarray) -> None:
    cache.put(key_of(ids), len(ids), state)


def test_the_longest_known_beginning_is_found():
    cache = StateCache(1000)
    for length in (128, 3, 256):
        put(cache, IDS[:length], state_of(length))
    for length, known in ((300, 256), (256, 256), (255, 128), (127, 3)):
        found = cache.longest(IDS[:length])
        assert found is not None
        assert (found[0], found[1][0, 0]) == (known, known)
    assert cache.longest(IDS[:2]) is None


def test_a_beginning_that_differs_in_one_token_is_another():
    cache = StateCache(1000)
    put(cache, IDS[:5], state_of(1))
    assert cache.longest([*IDS[:2], 9, *IDS[3:]]) is None
    assert cache.longest([0, 1, 2 + 2**16, 3, 4]) is None


def test_a_trail_has_the_keys_of_all_its_beginnings():
    trail = Trail(IDS)
    for length in (1, 1, 128, 299, 300):
        assert trail.key(length) == key_of(IDS[:length])


def test_a_state_is_found_by_its_key():
    cache = StateCache(1000)
    put(cache, IDS[:5], state_of(5))
    assert np.array_equal(cache.get(key_of(IDS[:5])), state_of(5))
    assert cache.get(key_of(IDS[:4])) is None


def test_states_go_in_and_come_out_as_copies():
    cache, state = StateCache(1000), state_of(1)
    put(cache, IDS[:5], state)
    state[:] = 7
    cache.longest(IDS[:5])[1][:] = 8
    assert np.array_equal(cache.longest(IDS[:5])[1], state_of(1))


def test_the_least_recently_used_goes_when_the_budget_is_full():
    cache = StateCache(3 * 32 + 31)
    for length in (1, 2, 3):
        put(cache, IDS[:length], state_of(length))
    cache.longest(IDS[:1])
    put(cache, IDS[:4], state_of(4))
    assert (len(cache), cache.bytes) == (3, 96)
    assert cache.longest(IDS[:2])[0] == 1
    assert cache.longest(IDS[:3])[0] == 3


def test_what_is_kept_twice_counts_once():
    cache = StateCache(1000)
    for _ in range(3):
        put(cache, IDS[:7], state_of(1))
    assert (len(cache), cache.bytes) == (1, 32)


def test_nothing_is_kept_without_a_budget_or_without_tokens():
    cache = StateCache(31)
    put(cache, IDS[:2], state_of(1))
    assert cache.longest(IDS) is None
    cache = StateCache(100)
    put(cache, [], state_of(1))
    assert len(cache) == 0
