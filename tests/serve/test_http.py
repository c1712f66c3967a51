"""What impolite clients meet: well-formed errors, limits, a key, and a server that goes on."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from servers import Joulemeter, serving, settled, slowed

from unmul.serve import joules
from unmul.serve.service import Limits

OK = {"prompt": "Once", "max_tokens": 3, "temperature": 0}


@pytest.fixture(scope="module")
def http(url):
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client


def error_of(response: httpx.Response, status: int) -> dict:
    """The error of a response, whose form is checked."""
    assert response.status_code == status, response.text
    document = response.json()
    assert document.keys() == {"error"}
    assert document["error"].keys() == {"message", "type", "param", "code"}
    return document["error"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": -1}, "temperature: Input should be greater than or equal to 0"),
        ({"temperature": "hot"}, "temperature: Input should be a valid number"),
        ({"top_p": 0}, "top_p: "),
        ({"top_p": 1.5}, "top_p: "),
        ({"top_k": -1}, "top_k: "),
        ({"n": 0}, "n: "),
        ({"n": 1000}, "n: "),
        ({"max_tokens": -1}, "max_tokens: "),
        ({"max_tokens": 0}, "max_tokens 0 cannot be used: choose 1 to 8192"),
        ({"max_tokens": 10**9}, "max_tokens 1000000000 cannot be used"),
        ({"max_tokens": 1.5}, "max_tokens: "),
        ({"seed": 2**70}, "seed: "),
        ({"stop": ""}, "stop: "),
        ({"stop": ["x"] * 17}, "stop: "),
        ({"logprobs": 21}, "logprobs: "),
        ({"prompt": []}, "prompt: "),
        ({"prompt": [[]]}, "prompt: "),
        ({"prompt": [1.5]}, "prompt: "),
        ({"prompt": [True]}, "prompt: "),
        ({"prompt": [1, "a"]}, "prompt: "),
        ({"prompt": [300]}, "token id 300 is not in the model: choose 0 to 299"),
        ({"prompt": [-1]}, "token id -1 is not in the model"),
        ({"prompt": None}, "prompt: Field required"),
        ({"stream": "perhaps"}, "stream: "),
        ({"frequency_penalty": 1}, "frequency_penalty is not supported: leave it out"),
        ({"logit_bias": {"1": 5}}, "logit_bias is not supported"),
        ({"suffix": "end"}, "suffix is not supported"),
        ({"best_of": 3}, "best_of 3 is not supported"),
        ({"session": "../x"}, "session '../x' is not a name"),
        ({"session": "x", "n": 2}, "a session has one text"),
    ],
    ids=lambda value: json.dumps(value)[:30] if isinstance(value, dict) else "",
)
def test_a_wrong_field_is_named(http, change, message):
    assert error_of(http.post("/v1/completions", json=OK | change), 400)["message"].startswith(message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_tokens": 0}, "max_tokens 0 cannot be used: choose 1 to 8192"),
        ({"max_completion_tokens": 0}, "max_completion_tokens: "),
        ({"top_logprobs": 2}, "top_logprobs without logprobs: set logprobs to true"),
        ({"messages": []}, "messages: "),
        ({"messages": [{"role": "user"}]}, "messages: "),
        ({"messages": [{"role": "user", "content": ["a"]}]}, "messages: "),
        ({"tools": [{"type": "function"}]}, "tools is not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format is not supported"),
    ],
    ids=lambda value: json.dumps(value)[:30] if isinstance(value, dict) else "",
)
def test_a_wrong_field_of_a_chat_is_named(http, change, message):
    body = {"messages": [{"role": "user", "content": "a"}]} | change
    assert error_of(http.post("/v1/chat/completions", json=body), 400)["message"].startswith(message)


@pytest.mark.parametrize(
    "change",
    [
        {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "best_of": 1},
        {"user": "me", "metadata": {"a": "b"}, "store": True, "unheard_of": [1]},
        {"seed": -1},
        {"stop": ["zzz"]},
    ],
    ids=["neutral", "unknown", "negative-seed", "stop"],
)
def test_fields_that_ask_for_nothing_are_passed_over(http, change):
    assert http.post("/v1/completions", json=OK | change).status_code == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"1", b"null", b'"x"', b'{"prompt": "\xff"}', b'{"prompt": "\\ud800"}', b"\x00" * 99],
    ids=["empty", "open", "list", "number", "null", "string", "not-utf8", "surrogate", "zeros"],
)
def test_a_body_that_is_no_request_is_refused(http, body):
    for path in ("/v1/completions", "/v1/chat/completions"):
        error_of(http.post(path, content=body, headers={"Content-Type": "application/json"}), 400)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "-Infinity"])
def test_numbers_that_json_does_not_have_are_refused(http, number):
    body = json.dumps(OK).replace('"temperature": 0', f'"temperature": {number}')
    error_of(http.post("/v1/completions", content=body, headers={"Content-Type": "application/json"}), 400)


def test_deep_nesting_is_refused(http):
    body = b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    error_of(http.post("/v1/completions", content=body, headers={"Content-Type": "application/json"}), 400)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/v1/completions", 405), ("POST", "/v1/models", 405), ("GET", "/docs", 404)],
)
def test_a_wrong_address_is_an_error_of_the_same_form(http, method, path, status):
    error_of(http.request(method, path), status)


def test_an_error_within_the_engine_is_told_without_its_inside(http, served, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("secret path")

    monkeypatch.setattr(served[1].service.engine, "step", broken)
    error = error_of(http.post("/v1/completions", json=OK), 500)
    assert (error["message"], error["type"]) == ("internal error", "server_error")
    stream = http.post("/v1/completions", json=OK | {"stream": True})
    assert stream.status_code == 200
    assert json.loads(stream.text.split("data: ")[1])["error"]["message"] == "internal error"
    monkeypatch.undo()
    assert "secret path" in caplog.text
    assert http.post("/v1/completions", json=OK).status_code == 200


def test_no_other_site_is_let_in(http):
    response = http.options(
        "/v1/completions", headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"}
    )
    assert response.status_code == 405
    answered = http.post("/v1/completions", json=OK, headers={"Origin": "http://evil.example"})
    assert not any(name.startswith("access-control") for name in answered.headers)


def test_health_and_metrics_tell_how_it_is(http):
    assert http.get("/health").json() == {"status": "ok"}
    before = value_of(http, "unmul_new_tokens_total")
    http.post("/v1/completions", json=OK)
    assert value_of(http, "unmul_new_tokens_total") == before + 3
    assert value_of(http, "unmul_answers_active") == 0
    assert value_of(http, "unmul_first_token_seconds_count") > 0
    assert value_of(http, 'unmul_responses_total{status="200"}') > 0


def test_energy_is_told_where_it_is_measured_and_nowhere_else(http, served, monkeypatch):
    monkeypatch.setattr(joules, "LEAST_S", 0)
    streamed = OK | {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    monkeypatch.setattr(served[1].service, "meter", Joulemeter())
    assert http.get("/v1/models").json()["data"][0]["meta"]["energy_source"] == "a counter"
    assert value_of(http, "unmul_energy_joules_total") > 0
    assert http.post("/v1/completions", json=OK).json()["usage"]["joules_per_token"] > 0
    text = http.post("/v1/completions", json=streamed).text
    assert text.count("joules_per_token") == 2  # with the last token, and in the usage of all
    monkeypatch.setattr(served[1].service, "meter", Joulemeter(measured=False))
    meta = http.get("/v1/models").json()["data"][0]["meta"]
    assert (meta["energy_source"], meta["energy_reason"]) == (None, "no counter here")
    assert "joules" not in http.get("/metrics").text
    assert "joules" not in http.post("/v1/completions", json=OK).text


def value_of(http: httpx.Client, name: str) -> float:
    (line,) = (line for line in http.get("/metrics").text.splitlines() if line.rpartition(" ")[0] == name)
    return float(line.rpartition(" ")[2])


def test_an_idle_stream_is_kept_alive_with_comments(folder):
    with serving(folder, limits=Limits(ping_s=0.02, drain_s=0)) as (url, server):
        server.service.engine.step = slowed(server, 0.15)
        text = httpx.post(f"{url}/v1/completions", json=OK | {"stream": True}, timeout=30).text
    assert ": ping\n\n" in text
    assert text.endswith("data: [DONE]\n\n")


def test_the_key_is_asked_for_wherever_there_is_something_to_have(folder):
    with serving(folder, key="très-secret") as (url, _), httpx.Client(base_url=url, timeout=30) as http:
        for sent in (None, "Bearer wrong", "Bearer", "très-secret-and-more", "Basic x"):
            headers = {"Authorization": sent.encode()} if sent else {}
            for path in ("/v1/completions", "/v1/models", "/metrics", "/v1/nothing"):
                error = error_of(http.get(path, headers=headers), 401)
                assert error["code"] == "invalid_api_key"
        right = {"Authorization": "Bearer très-secret".encode()}
        assert http.post("/v1/completions", json=OK, headers=right).status_code == 200
        assert http.get("/health").status_code == 200
        assert http.get("/").status_code == 200


def test_a_large_body_is_refused_before_it_is_read_and_when_it_hides_its_size(folder):
    with serving(folder, limits=Limits(body_bytes=1000, drain_s=0)) as (url, _):
        large = json.dumps(OK | {"prompt": "a" * 2000}).encode()
        headers = {"Content-Type": "application/json"}
        assert error_of(httpx.post(f"{url}/v1/completions", content=large, headers=headers), 413)
        hidden = httpx.post(f"{url}/v1/completions", content=iter([large[:500], large[500:]]), headers=headers)
        assert error_of(hidden, 413)["code"] == "request_too_large"
        assert httpx.post(f"{url}/v1/completions", json=OK, timeout=30).status_code == 200


def test_a_long_prompt_is_refused_with_the_limit(folder):
    with serving(folder, limits=Limits(prompt_tokens=5, drain_s=0)) as (url, _):
        error = error_of(httpx.post(f"{url}/v1/completions", json=OK | {"prompt": [1] * 6}), 400)
        assert error["message"] == "the prompt has 6 tokens: send at most 5, or go on in a session"


def test_a_full_server_says_when_to_come_back(folder):
    with serving(folder, limits=Limits(slots=1, queue=1, drain_s=0)) as (url, server):
        worker, endless = server.service.worker, OK | {"prompt": "One", "max_tokens": 8192}
        server.service.engine.step = slowed(server, 0.01)
        with httpx.Client(base_url=url, timeout=30) as http:
            with http.stream("POST", "/v1/completions", json=endless | {"stream": True}):
                settled(lambda: worker.scheduler.active == 1)
                with http.stream("POST", "/v1/completions", json=endless | {"stream": True}):
                    response = http.post("/v1/completions", json=OK)
                    assert error_of(response, 429)["code"] == "rate_limit_exceeded"
                    assert int(response.headers["Retry-After"]) >= 1
            settled(lambda: worker.scheduler.active + worker.waiting == 0)
            assert http.post("/v1/completions", json=OK).status_code == 200


def test_a_client_that_leaves_without_a_stream_frees_its_place_too(served, url, slow_steps):
    scheduler = served[1].service.scheduler
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/v1/completions", json=OK | {"max_tokens": 8192}, timeout=httpx.Timeout(30, read=0.1))
    settled(lambda: scheduler.active == 0)


def test_a_client_that_does_not_read_holds_nobody_up(served, url):
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps(OK | {"stream": True, "max_tokens": 8192, "prompt": "The"}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    with socket.create_connection((host, int(port))) as lazy:
        lazy.sendall(head.encode() + b"\r\n\r\n" + body)
        for _ in range(3):
            assert httpx.post(f"{url}/v1/completions", json=OK, timeout=30).status_code == 200
    settled(lambda: served[1].service.scheduler.active == 0)


def test_many_clients_at_once_get_the_answers_that_each_gets_alone(url):
    asks = [OK | {"prompt": f"{k} birds sang", "max_tokens": 20, "seed": k, "temperature": 1} for k in range(24)]

    def ask(body):
        return httpx.post(f"{url}/v1/completions", json=body, timeout=30).json()["choices"][0]["text"]

    alone = [ask(body) for body in asks]
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, asks)) == alone
