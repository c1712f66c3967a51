"""A server's life: it listens before the model is there, ends in order, and sessions outlive it."""

import threading

import httpx
import pytest
from servers import serving, settled, slowed

from unmul.errors import UsageError
from unmul.serve import run
from unmul.serve.run import listen
from unmul.serve.service import Limits

ASK = {"prompt": "The sun rose", "max_tokens": 9, "temperature": 0}


def text_of(url, **change):
    response = httpx.post(f"{url}/v1/completions", json=ASK | change, timeout=30)
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["text"]


def test_while_the_model_is_loaded_the_server_answers_that_it_is_not_ready(folder, monkeypatch):
    gate, open_service, listener = threading.Event(), run.open_service, listen("127.0.0.1", 0)

    def slowly(*arguments, **options):
        assert gate.wait(30)
        return open_service(*arguments, **options)

    monkeypatch.setattr(run, "open_service", slowly)
    server = run.Server(folder, limits=Limits(drain_s=0), threads=1)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        for call in (
            lambda: httpx.get(f"{url}/health", timeout=30),
            lambda: httpx.post(f"{url}/v1/completions", json=ASK, timeout=30),
        ):
            response = call()
            assert response.status_code == 503
            assert response.json()["error"]["message"] == "the model is being loaded: try again in a moment"
            assert response.headers["Retry-After"] == "1"
        assert httpx.get(f"{url}/metrics", timeout=30).status_code == 200
        gate.set()
        settled(lambda: server.service)
        assert httpx.get(f"{url}/health", timeout=30).status_code == 200
    finally:
        gate.set()
        server.should_exit = True
        thread.join(30)
        listener.close()


def test_a_folder_that_cannot_be_served_ends_the_server_with_the_reason(packed):
    with serving(packed) as (_, server):
        settled(lambda: server.should_exit)
    assert "has no tokenizer.json" in str(server.failure)


def test_sessions_outlive_a_server_and_go_on_to_the_bit(folder, tmp_path):
    with serving(folder) as (url, _):
        whole = text_of(url, max_tokens=27)
    text = ""
    for prompt in ("The sun rose", "", ""):
        with serving(folder, sessions=tmp_path / "talks") as (url, _):
            text += text_of(url, prompt=prompt, session="talk")
    assert text == whole
    assert [path.name for path in (tmp_path / "talks").iterdir()] == ["talk.session"]


def test_sessions_do_not_mix_however_they_are_interleaved(folder):
    prompts = {f"s{k}": f"{k} birds sang" for k in range(6)}
    with serving(folder) as (url, _):
        whole = {name: text_of(url, prompt=prompt, max_tokens=12) for name, prompt in prompts.items()}
        parts = dict.fromkeys(prompts, "")

        def talk(name, prompt):
            parts[name] += text_of(url, prompt=prompt, session=name, max_tokens=4)

        for turn in range(3):
            threads = [threading.Thread(target=talk, args=(s, p if turn == 0 else "")) for s, p in prompts.items()]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
    assert parts == whole


def test_the_end_lets_open_answers_finish(folder):
    with serving(folder, limits=Limits(drain_s=30)) as (url, server):
        server.service.engine.step = slowed(server, 0.02)
        with httpx.stream("POST", f"{url}/v1/completions", json=ASK | {"stream": True}, timeout=30) as response:
            server.should_exit = True
            text = "".join(response.iter_text())
    assert '"finish_reason":"length"' in text
    assert text.endswith("data: [DONE]\n\n")


def test_at_the_end_of_its_patience_the_server_returns_what_it_has(folder, tmp_path):
    endless = ASK | {"prompt": "One", "max_tokens": 8000, "stream": True, "session": "cut"}
    with serving(folder, limits=Limits(drain_s=0.1), sessions=tmp_path) as (url, server):
        server.service.engine.step = slowed(server, 0.01)
        with httpx.stream("POST", f"{url}/v1/completions", json=endless, timeout=30) as response:
            settled(lambda: server.service.scheduler.new_tokens > 3)
            server.should_exit = True
            text = "".join(response.iter_text())
        assert '"finish_reason":"length"' in text
        assert text.endswith("data: [DONE]\n\n")
    assert (tmp_path / "cut.session").exists()


def test_an_address_that_cannot_be_had_is_named():
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"127.0.0.1 port {port} cannot be listened on .*choose another"):
            listen("127.0.0.1", port)
    with pytest.raises(UsageError, match="cannot be listened on"):
        listen("192.0.2.1", 0)
    with pytest.raises(UsageError, match="port 99999 does not exist"):
        listen("127.0.0.1", 99999)


def test_ipv6_is_listened_on_too():
    try:
        with listen("::1", 0) as listener:
            assert listener.getsockname()[0] == "::1"
    except UsageError:
        pytest.skip("this machine has no IPv6")
