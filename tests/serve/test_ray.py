"""serve.ray: two replicas on a local Ray cluster answer as one server, sessions stay with theirs and outlive it."""

import json
import threading
import warnings

import httpx
import pytest
from servers import LONGEST_S, serving, settled

from unmul.serve.run import listen
from unmul.serve.service import Limits

with warnings.catch_warnings(action="ignore"):  # Ray's own code warns as it likes
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'unmul[ray]'")
    from unmul.serve.ray import Settings, application, session_of

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

ASK = {"prompt": "The sun rose", "max_tokens": 9, "temperature": 0}
ENDLESS = ASK | {"prompt": "One", "max_tokens": 8000, "stream": True}


@pytest.fixture(scope="module")
def url(folder, tmp_path_factory):
    """A cluster of two replicas."""
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")  # tell nobody of this test
        patch.setenv("RAY_AUTH_MODE", "disabled")  # leave no token in the user's home
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
        try:
            ray.serve.start(http_options={"host": "127.0.0.1", "port": port})
            talks = tmp_path_factory.mktemp("talks")
            ray.serve.run(application(Settings(model=folder, replicas=2, sessions=talks)))
            yield f"http://127.0.0.1:{port}"
        finally:
            ray.serve.shutdown()
            ray.shutdown()


@pytest.fixture(scope="module")
def http(url):
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def alone(folder):
    """The same model behind `unmul serve`."""
    with serving(folder) as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        yield client


def text_of(client, **change):
    response = client.post("/v1/completions", json=ASK | change)
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["text"]


def replica_of(response):
    return response.headers["x-unmul-replica"]


def kill(replica):
    ray.kill(ray.get_actor(f"SERVE_REPLICA::default#replica#{replica}", namespace="serve"))


@pytest.mark.parametrize(
    ("path", "body", "session"),
    [
        ("/v1/completions", b'{"prompt": "a", "session": "talk"}', "talk"),
        ("/v1/sessions/talk/stop", b"", "talk"),
        ("/v1/completions", b'{"prompt": "a"}', ""),
        ("/v1/completions", b'{"prompt": "\\"session\\": 1"}', ""),
        ("/v1/completions", b'{"session": 5}', ""),
        ("/v1/completions", b'["session"]', ""),
        ("/v1/completions", b'{"session"', ""),
        ("/v1/completions", b'{"session":' + b"[" * 100_000, ""),
        ("/v1/completions", b'"session" \xff', ""),
    ],
)
def test_the_session_of_a_request_is_found_or_there_is_none(path, body, session):
    assert session_of(path, body) == session


def test_texts_are_those_of_one_server_whole_and_streamed(http, alone):
    whole = text_of(alone, prompt="One", max_tokens=200)
    assert text_of(http, prompt="One", max_tokens=200) == whole
    with http.stream("POST", "/v1/completions", json=ENDLESS | {"max_tokens": 200}) as response:
        events = [json.loads(line[6:]) for line in response.iter_lines() if line.startswith("data: {")]
    assert "".join(event["choices"][0]["text"] for event in events) == whole
    assert len(events) > 20


@pytest.mark.parametrize(
    ("method", "path", "options"),
    [
        ("GET", "/", {}),
        ("GET", "/health", {}),
        ("GET", "/openapi.json", {}),
        ("GET", "/nothing?a=b", {}),
        ("GET", "/v1/completions", {}),
        ("POST", "/v1/completions", {"content": b"{"}),
        ("POST", "/v1/completions", {"json": ASK | {"temperature": -1}}),
        ("POST", "/v1/completions", {"json": ASK | {"model": "other"}}),
        ("POST", "/v1/completions", {"json": ASK | {"session": "../up"}}),
        ("POST", "/v1/chat/completions", {"json": {"messages": []}}),
    ],
)
def test_every_other_answer_is_that_of_one_server_too(http, alone, method, path, options):
    mine, theirs = http.request(method, path, **options), alone.request(method, path, **options)
    assert (mine.status_code, mine.text) == (theirs.status_code, theirs.text)
    assert mine.headers["content-type"] == theirs.headers["content-type"]


def test_a_body_that_is_too_large_is_refused_by_the_replica(http):
    pieces = [b" " * Limits().body_bytes, b"!"]
    for content in (b"".join(pieces), iter(pieces)):
        assert http.post("/v1/completions", content=content).status_code == 413


def test_a_session_stays_with_its_replica_and_both_have_some(http):
    replicas = {}
    for turn in range(3):
        for k in range(8):
            body = ASK | {"session": f"s{k}", "prompt": "" if turn else "Once"}
            replicas.setdefault(k, set()).add(replica_of(http.post("/v1/completions", json=body)))
    assert all(len(found) == 1 for found in replicas.values())
    assert len(set.union(*replicas.values())) == 2


def test_a_session_that_writes_is_stopped_where_it_is(http, url):
    stopped = []

    def stop():
        settled(lambda: httpx.post(f"{url}/v1/sessions/long/stop", timeout=60).json()["stopped"])
        stopped.append(True)

    thread = threading.Thread(target=stop)
    thread.start()
    with http.stream("POST", "/v1/completions", json=ENDLESS | {"session": "long"}) as response:
        text = "".join(response.iter_text())
    thread.join(LONGEST_S)
    assert stopped
    assert text.endswith("data: [DONE]\n\n")
    assert text.count("data: ") < 8000


def test_a_client_that_leaves_frees_its_place(http):
    with http.stream("POST", "/v1/completions", json=ENDLESS) as response:
        next(response.iter_text())
        replica = replica_of(response)

    def idle():
        metrics = http.get("/metrics")
        return replica_of(metrics) == replica and "unmul_answers_active 0.0" in metrics.text

    settled(idle)


def test_a_session_goes_on_to_the_bit_when_its_replica_dies(http, alone):
    whole = text_of(alone, max_tokens=27)
    first = http.post("/v1/completions", json=ASK | {"session": "phoenix"})
    kill(replica_of(first))
    second, third = (http.post("/v1/completions", json=ASK | {"session": "phoenix", "prompt": ""}) for _ in range(2))
    assert replica_of(second) != replica_of(first)
    assert "".join(answer.json()["choices"][0]["text"] for answer in (first, second, third)) == whole


def test_a_stream_whose_replica_dies_ends_with_an_error(http):
    with http.stream("POST", "/v1/completions", json=ENDLESS) as response:
        pieces = response.iter_text()
        text = next(pieces)
        kill(replica_of(response))
        text += "".join(pieces)
    error = json.loads(text.rpartition("data: ")[2])["error"]
    assert error["message"] == "the server that answered has ended: try again; a session goes on from its last answer"
    assert text_of(http)


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="replicas"):
        Settings(replicas=0)
    with pytest.raises(ValueError, match="thread"):
        Settings(thread=2)
