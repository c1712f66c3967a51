"""OpenAI's own client, plain and async, finds what it knows from its maker's servers."""

import asyncio
import math
from dataclasses import replace

import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError, OpenAI
from servers import serving, settled
from speakers import SPEAKER, speaking_packed

import unmul
from unmul import SamplingParams

ASK = {"model": "parrot", "temperature": 0, "max_tokens": 12}
HELLO = [{"role": "user", "content": "Once upon a time"}]


@pytest.fixture(scope="module")
def model(folder):
    return unmul.load(folder, threads=1)


def written(model, prompt, *, new=12, **sampling):
    drawn = SamplingParams(**({"temperature": 0} | sampling))
    return "".join(model.generate(prompt, max_new_tokens=new, sampling=drawn))


def rendered(messages):
    return "".join(f"<{m['role']}>{m['content']}\n" for m in messages) + "<assistant>"


def test_a_completion_is_what_the_model_writes(client, model):
    done = client.completions.create(prompt="Once upon", **ASK)
    assert done.object == "text_completion"
    assert done.model == "parrot"
    assert done.choices[0].text == written(model, "Once upon")
    assert done.choices[0].finish_reason in ("length", "stop")
    assert done.choices[0].logprobs is None
    assert done.usage.prompt_tokens == len(model.last.prompt_ids)
    assert done.usage.completion_tokens == len(model.last.new_ids)
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens


def test_a_chat_is_what_the_model_writes_after_its_template(client, model):
    done = client.chat.completions.create(messages=HELLO, **ASK)
    ids = model.tokenizer.encode(rendered(HELLO), add_special_tokens=False).ids
    again = client.completions.create(prompt=ids, **ASK)
    assert done.object == "chat.completion"
    assert done.choices[0].message.role == "assistant"
    assert done.choices[0].message.content == again.choices[0].text
    assert done.usage.prompt_tokens == len(ids)


@pytest.mark.parametrize("usage", [True, False])
def test_a_stream_of_a_completion_joins_to_the_whole(client, usage):
    whole = client.completions.create(prompt="The sun", **ASK)
    options = {"stream_options": {"include_usage": True}} if usage else {}
    chunks = list(client.completions.create(prompt="The sun", stream=True, **options, **ASK))
    parts = [chunk for chunk in chunks if chunk.choices]
    assert "".join(chunk.choices[0].text for chunk in parts) == whole.choices[0].text
    assert [chunk.choices[0].finish_reason for chunk in parts[:-1]] == [None] * (len(parts) - 1)
    assert parts[-1].choices[0].finish_reason == whole.choices[0].finish_reason
    assert len({chunk.id for chunk in chunks}) == 1
    assert len(parts) > 3
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == [whole.usage.total_tokens] * usage
    assert bool(chunks[-1].choices) is not usage


def test_a_stream_of_a_chat_names_the_role_first(client):
    whole = client.chat.completions.create(messages=HELLO, **ASK)
    chunks = list(client.chat.completions.create(messages=HELLO, stream=True, **ASK))
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert chunks[0].choices[0].delta.role == "assistant"
    assert all(chunk.choices[0].delta.role is None for chunk in chunks[1:])
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason


def test_a_stop_string_ends_the_text_before_it(client, model):
    text = written(model, "One by one", new=30)
    for stop in (text[5:8], [text[5:8], "never seen"]):
        done = client.completions.create(prompt="One by one", stop=stop, **{**ASK, "max_tokens": 30})
        assert done.choices[0].text == text[: text.index(text[5:8])]
        assert done.choices[0].finish_reason == "stop"


def test_the_same_seed_gives_the_same_text_and_the_models_own(client, model):
    options = ASK | {"temperature": 0.9, "top_p": 0.8, "seed": 11, "max_tokens": 20, "extra_body": {"top_k": 30}}
    texts = {client.completions.create(prompt="The", **options).choices[0].text for _ in range(2)}
    assert texts == {written(model, "The", new=20, temperature=0.9, top_p=0.8, top_k=30, seed=11)}


def test_several_choices_draw_with_seeds_of_their_own(client, model):
    options = ASK | {"temperature": 1, "seed": 5, "n": 3}
    done = client.completions.create(prompt="The", **options)
    expected = [written(model, "The", temperature=1, top_p=1.0, seed=5 + k) for k in range(3)]
    assert [choice.index for choice in done.choices] == [0, 1, 2]
    assert [choice.text for choice in done.choices] == expected
    texts = ["", "", ""]
    for chunk in client.completions.create(prompt="The", stream=True, **options):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == expected
    chat = client.chat.completions.create(messages=HELLO, **options)
    assert [choice.index for choice in chat.choices] == [0, 1, 2]


def test_several_prompts_are_answered_in_their_order(client, model):
    prompts = ["The sun", "Once", "déjà vu"]
    done = client.completions.create(prompt=prompts, **ASK)
    assert [choice.text for choice in done.choices] == [written(model, prompt) for prompt in prompts]
    ids = [model.tokenizer.encode(prompt).ids for prompt in prompts]
    again = client.completions.create(prompt=[[0, *one] for one in ids], **ASK)
    assert [choice.text for choice in again.choices] == [choice.text for choice in done.choices]


def test_log_probabilities_of_a_completion_name_each_token(client):
    done = client.completions.create(prompt="The sun", logprobs=3, **ASK)
    found = done.choices[0].logprobs
    assert len(found.tokens) == len(found.token_logprobs) == len(found.top_logprobs) == done.usage.completion_tokens
    for token, logprob, top in zip(found.tokens, found.token_logprobs, found.top_logprobs, strict=True):
        assert logprob == max(top.values()) == top[token]
        assert len(top) <= 4
    assert found.text_offset[0] == 0


def test_log_probabilities_of_a_chat_name_each_token(client):
    options = ASK | {"logprobs": True, "top_logprobs": 2}
    done = client.chat.completions.create(messages=HELLO, **options)
    found = done.choices[0].logprobs.content
    assert len(found) == done.usage.completion_tokens
    for entry in found:
        assert entry.logprob == entry.top_logprobs[0].logprob <= 0
        assert entry.top_logprobs[0].logprob >= entry.top_logprobs[1].logprob
        assert entry.bytes is None or bytes(entry.bytes).decode() == entry.token
    chunks = client.chat.completions.create(messages=HELLO, stream=True, **options)
    streamed = [entry for chunk in chunks for entry in chunk.choices[0].logprobs.content]
    assert streamed == found


def test_the_echo_of_a_prompt_scores_it_as_the_harness_asks(client, model):
    context, rest = (model.tokenizer.encode(text).ids for text in ("Once upon a ", "time there"))
    done = client.completions.create(
        prompt=[[*context, *rest]], model="parrot", temperature=0, max_tokens=1, logprobs=1, seed=1234, echo=True
    )
    found = done.choices[0].logprobs
    logits = model.logits([*context, *rest]).astype(float)
    logprobs = logits - [[math.log(sum(math.exp(x) for x in row))] for row in logits.tolist()]
    expected = [logprobs[at - 1][token] for at, token in enumerate([*context, *rest]) if at]
    assert found.token_logprobs[0] is None
    assert found.token_logprobs[1:-1] == pytest.approx(expected, abs=1e-5)
    greedy = [max(top.values()) for top in found.top_logprobs[len(context) : -1]]
    assert greedy == pytest.approx([row.max() for row in logprobs[len(context) - 1 : -1]], abs=1e-5)
    assert done.choices[0].text.startswith("Once upon a time there")


def test_the_echo_of_a_text_scores_its_first_token_after_the_begin_token(client, model):
    done = client.completions.create(prompt="Once", model="parrot", max_tokens=0, logprobs=0, echo=True)
    (choice,) = done.choices
    assert (choice.text, choice.finish_reason, done.usage.completion_tokens) == ("Once", "length", 0)
    assert "".join(choice.logprobs.tokens) == "Once"
    first = model.tokenizer.encode("Once").ids[0]
    row = model.logits([0])[0].astype(float)
    assert choice.logprobs.token_logprobs[0] == pytest.approx(row[first] - math.log(sum(math.exp(x) for x in row)))


def test_the_echo_streams_before_the_answer(client):
    options = ASK | {"echo": True, "logprobs": 1}
    whole = client.completions.create(prompt="déjà vu", **options).choices[0]
    chunks = [chunk.choices[0] for chunk in client.completions.create(prompt="déjà vu", stream=True, **options)]
    assert chunks[0].text == "déjà vu"
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert [logprob for chunk in chunks for logprob in chunk.logprobs.token_logprobs] == whole.logprobs.token_logprobs


def test_a_shared_beginning_is_counted_as_cached(client):
    system = {"role": "system", "content": "Speak of birds and houses, one by one. " * 12}
    first = client.chat.completions.create(messages=[system, *HELLO], **ASK)
    second = client.chat.completions.create(messages=[system, {"role": "user", "content": "Why?"}], **ASK)
    assert first.usage.prompt_tokens_details.cached_tokens == 0
    assert second.usage.prompt_tokens_details.cached_tokens >= 128


def test_a_session_goes_on_as_if_the_text_had_never_stopped(client, model):
    whole = written(model, "The sun rose", new=24)
    text = ""
    for prompt in ("The sun rose", "", ""):
        done = client.completions.create(prompt=prompt, extra_body={"session": "goes-on"}, **(ASK | {"max_tokens": 8}))
        text += done.choices[0].text
    assert text == whole
    on = written_on(model, " and sang")
    assert client.completions.create(prompt=" and sang", extra_body={"session": "goes-on"}, **ASK).choices[0].text == on


def written_on(model, prompt):
    sampling = SamplingParams(temperature=0)
    return "".join(model.generate(prompt, max_new_tokens=12, sampling=sampling, resume=True))


def test_a_stream_that_is_left_keeps_its_session_and_frees_its_place(client, served, slow_steps):
    options = ASK | {"max_tokens": 8000}
    stream = client.completions.create(prompt="One", stream=True, extra_body={"session": "left"}, **options)
    next(stream)
    stream.close()
    scheduler = served[1].service.scheduler
    settled(lambda: scheduler.active == 0)
    done = client.completions.create(prompt="", extra_body={"session": "left"}, **ASK)
    assert done.usage.prompt_tokens == 1


def test_a_session_that_is_stopped_has_told_all_and_goes_on(client, served, model, slow_steps):
    options = ASK | {"max_tokens": 8000}
    stream = client.completions.create(prompt="One", stream=True, extra_body={"session": "halt"}, **options)
    chunks = [next(stream)]
    stopped = client.post("/sessions/halt/stop", cast_to=object)
    chunks += list(stream)
    assert stopped == {"session": "halt", "stopped": True}
    assert chunks[-1].choices[0].finish_reason == "length"
    text = "".join(chunk.choices[0].text for chunk in chunks)
    done = client.completions.create(prompt="", extra_body={"session": "halt"}, **ASK)
    assert written(model, "One", new=400).startswith(text + done.choices[0].text)
    assert client.post("/sessions/halt/stop", cast_to=object)["stopped"] is False


def test_the_model_is_listed_and_described(client):
    (listed,) = client.models.list()
    assert (listed.id, listed.object) == ("parrot", "model")
    assert client.models.retrieve("parrot") == listed
    assert listed.meta["state_bytes"] == 2 * 64 * 4
    assert listed.meta["transformer_cache_bytes_per_token"] == 2 * 2 * 64 * 2


def test_a_wider_token_mixer_is_served_with_its_wider_state(tmp_path):
    folder = speaking_packed(tmp_path / "wide", replace(SPEAKER, expand_ratio=2))
    alone = unmul.load(folder, threads=1)
    ask = ASK | {"model": "wide", "extra_body": {"session": "talk"}}
    with serving(folder) as (url, _), OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=30) as client:
        first = client.completions.create(prompt="Once upon", **ask).choices[0].text
        assert first == written(alone, "Once upon")
        assert client.completions.create(prompt=" The sun", **ask).choices[0].text == written_on(alone, " The sun")
        meta = client.models.retrieve("wide").meta
    assert meta["state_bytes"] == 2 * 128 * 4
    assert meta["transformer_cache_bytes_per_token"] == 2 * 2 * 64 * 2


def test_another_model_is_not_found_and_this_one_named(client):
    for call in (
        lambda: client.completions.create(prompt="a", model="gpt"),
        lambda: client.models.retrieve("gpt"),
        lambda: client.chat.completions.create(messages=HELLO, model="gpt"),
    ):
        with pytest.raises(NotFoundError, match="model 'gpt' is not served: ask for 'parrot'") as caught:
            call()
        assert caught.value.code == "model_not_found"


def test_what_the_template_refuses_is_the_clients_error(client):
    with pytest.raises(BadRequestError, match="no judges"):
        client.chat.completions.create(messages=[{"role": "judge", "content": "x"}], **ASK)


def test_the_pieces_of_a_content_are_one_text(client):
    pieces = [{"type": "text", "text": "Once upon "}, {"type": "text", "text": "a time"}]
    done = client.chat.completions.create(messages=[{"role": "user", "content": pieces}], **ASK)
    assert done.choices[0].message == client.chat.completions.create(messages=HELLO, **ASK).choices[0].message
    image = [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]
    with pytest.raises(BadRequestError, match="messages: "):
        client.chat.completions.create(messages=[{"role": "user", "content": image}], **ASK)


def test_a_client_that_sends_nulls_gets_the_defaults(url):
    with OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        nulls = dict.fromkeys(("temperature", "top_p", "n", "seed", "stop", "logprobs", "stream_options", "echo"))
        done = client.completions.create(model="parrot", prompt="a", extra_body=nulls)
        assert done.usage.completion_tokens <= 16


def test_the_async_client_gets_the_same_answers_many_at_a_time(client, url):
    prompts = ["The sun", "Once", "déjà vu", "One by one"] * 4
    expected = {prompt: client.completions.create(prompt=prompt, **ASK).choices[0].text for prompt in set(prompts)}

    async def streamed(other: AsyncOpenAI, prompt: str) -> str:
        chunks = await other.completions.create(prompt=prompt, stream=True, **ASK)
        return "".join([chunk.choices[0].text async for chunk in chunks])

    async def whole(other: AsyncOpenAI, prompt: str) -> str:
        return (await other.completions.create(prompt=prompt, **ASK)).choices[0].text

    async def all_of_them() -> list[str]:
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=30) as other:
            calls = [(streamed if k % 2 else whole)(other, prompt) for k, prompt in enumerate(prompts)]
            return await asyncio.gather(*calls)

    assert asyncio.run(all_of_them()) == [expected[prompt] for prompt in prompts]


def test_the_async_client_chats_lists_and_meets_errors(client, url):
    async def talk():
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=30) as other:
            done = await other.chat.completions.create(messages=HELLO, **ASK)
            stream = await other.chat.completions.create(messages=HELLO, stream=True, **ASK)
            text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            names = [model.id async for model in other.models.list()]
            with pytest.raises(BadRequestError):
                await other.completions.create(prompt="a", **(ASK | {"temperature": -1}))
            return done.choices[0].message.content, text, names

    whole, text, names = asyncio.run(talk())
    assert whole == text == client.chat.completions.create(messages=HELLO, **ASK).choices[0].message.content
    assert names == ["parrot"]
