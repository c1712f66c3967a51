"""serve.joules: what a token costs while a request runs, and silence where that is not known."""

from types import SimpleNamespace

import pytest
from servers import Joulemeter

from unmul.serve import joules
from unmul.serve.joules import Joules


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=50.0)
    monkeypatch.setattr(joules, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_joules_are_shared_by_all_tokens_written_meanwhile(clock):
    scheduler = SimpleNamespace(new_tokens=100)
    spent = Joules(Joulemeter(), scheduler)
    scheduler.new_tokens, clock.now = 104, 51
    assert spent.per_token() == 1 / 4
    scheduler.new_tokens = 110
    assert spent.per_token() == 2 / 10


@pytest.mark.parametrize(
    ("meter", "tokens", "seconds"),
    [(Joulemeter(measured=False), 4, 1), (Joulemeter(), 0, 1), (Joulemeter(), 4, 0.05)],
    ids=["no-meter", "no-token", "no-time"],
)
def test_what_is_not_known_is_not_told(clock, meter, tokens, seconds):
    scheduler = SimpleNamespace(new_tokens=100)
    spent = Joules(meter, scheduler)
    scheduler.new_tokens, clock.now = 100 + tokens, clock.now + seconds
    assert spent.per_token() is None
