"""Random clients against a server, well-behaved and not, for some minutes. Loopback only.

    python benchmarks/serve/soak.py [MODEL] [--seconds 600] [--clients 24]

Clients ask and check the answer, go on in sessions and check that too, leave in mid-stream, read slowly, send garbage,
huge bodies, wrong keys and invalid UTF-8. Ends with status 1 if the server fell, answered anything malformed or a 500,
mixed texts (each greedy answer is known beforehand), or grew by more than 5 % in its second half.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from process import Served, model_folder, serving

import unmul

KEY_VARIABLE, KEY = "UNMUL_SOAK_KEY", "soak"
PROMPTS = [f"{beginning} {k}" for beginning in ("Once upon a time", "The king said", "Far away") for k in range(8)]
PIECE, PIECES = 8, 5  # tokens of an answer, answers of a session


class Soak:
    """What the clients share: the server, what each prompt's text must be, and what went wrong."""

    def __init__(self, served: Served, texts: dict[str, list[str]]) -> None:
        self.served, self.texts = served, texts
        self.done: Counter[str] = Counter()
        self.faults: list[str] = []
        self.rss: list[int] = []
        self._sessions = 0

    async def run(self, clients: int, seconds: float) -> None:
        """So many clients at once until the time is up."""
        end = time.monotonic() + seconds
        async with httpx.AsyncClient(base_url=self.served.url, timeout=120, limits=httpx.Limits()) as http:
            tasks = [asyncio.create_task(self._client(http, end)) for _ in range(clients)]
            while time.monotonic() < end:
                await asyncio.sleep(min(1, seconds / 20))
                self.rss.append(self.served.rss_bytes())
            await asyncio.gather(*tasks)
            self.check((await http.get("/health")).status_code == 200, "the server does not answer at the end")

    async def _client(self, http: httpx.AsyncClient, end: float) -> None:
        acts: list[Callable[[httpx.AsyncClient], Awaitable[None]]] = [
            self.ask, self.converse, self.leave, self.dawdle, self.garbage, self.huge, self.wrong_key, self.wrong_field,
        ]  # fmt: skip
        while time.monotonic() < end:
            act = random.choice(acts)
            try:
                await act(http)
            except httpx.HTTPError as error:
                self.faults.append(f"{act.__name__}: {type(error).__name__} {error}")
            self.done[act.__name__] += 1

    def check(self, true: bool, fault: str) -> None:
        """Note a fault."""
        if not true:
            self.faults.append(fault)

    async def ask(self, http: httpx.AsyncClient) -> None:
        """An answer, whole or as a stream."""
        prompt = random.choice(PROMPTS)
        body = request(prompt)
        text = await (self._streamed(http, body) if random.random() < 0.5 else self._whole(http, body))
        self.check(text in (None, self.texts[prompt][0]), f"{prompt!r} went on with {text!r}")

    async def converse(self, http: httpx.AsyncClient) -> None:
        """A session whose pieces must join to the text."""
        prompt, self._sessions = random.choice(PROMPTS), self._sessions + 1
        name, expected = f"soak-{self._sessions % 500}-{random.getrandbits(40):x}", self.texts[prompt]
        for piece in range(PIECES):
            text = await self._whole(http, request("" if piece else prompt) | {"session": name})
            if text is None:
                return
            self.check(text == expected[piece], f"piece {piece} after {prompt!r} is {text!r}")

    async def leave(self, http: httpx.AsyncClient) -> None:
        """Go away in mid-stream."""
        body = request(random.choice(PROMPTS)) | {"stream": True, "max_tokens": 2000}
        async with http.stream("POST", "/v1/completions", json=body, headers=keyed()) as response:
            async for _ in response.aiter_lines():
                if random.random() < 0.3:
                    return

    async def dawdle(self, http: httpx.AsyncClient) -> None:
        """Read slowly, then not at all."""
        body = request(random.choice(PROMPTS)) | {"stream": True, "max_tokens": 400}
        async with http.stream("POST", "/v1/completions", json=body, headers=keyed()) as response:
            async for _ in response.aiter_raw(64):
                await asyncio.sleep(0.05)
                if random.random() < 0.1:
                    return

    async def garbage(self, http: httpx.AsyncClient) -> None:
        """Bytes that are no request."""
        body = random.choice(
            [os.urandom(200), b"{", b'{"prompt": "\xff\xfe"}', b"[" * 5000, b"null", b'{"prompt": NaN}']
        )
        await self._refused(http, 400, content=body)

    async def huge(self, http: httpx.AsyncClient) -> None:
        """More than the server takes, announced or not."""
        body = b" " * (9 << 20)
        parts = (body[start : start + (1 << 20)] for start in range(0, len(body), 1 << 20))
        # The server may close before it has read all.
        with suppress(httpx.WriteError, httpx.RemoteProtocolError, httpx.ReadError):
            await self._refused(http, 413, content=body if random.random() < 0.5 else _chunks(parts))

    async def wrong_key(self, http: httpx.AsyncClient) -> None:
        """A key that opens nothing."""
        await self._refused(http, 401, json=request("a"), headers={"Authorization": f"Bearer {random.random()}"})

    async def wrong_field(self, http: httpx.AsyncClient) -> None:
        """A value that no field takes."""
        change = random.choice(
            [{"temperature": -1}, {"n": 99}, {"prompt": [10**9]}, {"session": "../x"}, {"stop": [""]}]
        )
        await self._refused(http, 400, json=request("a") | change)

    async def _whole(self, http: httpx.AsyncClient, body: dict[str, Any]) -> str | None:
        response = await http.post("/v1/completions", json=body, headers=keyed())
        if response.status_code == 429:
            self.check("retry-after" in response.headers, "429 without Retry-After")
            return None
        self.check(response.status_code == 200, f"{response.status_code} {response.text[:200]}")
        return response.json()["choices"][0]["text"] if response.status_code == 200 else None

    async def _streamed(self, http: httpx.AsyncClient, body: dict[str, Any]) -> str | None:
        text = ""
        async with http.stream("POST", "/v1/completions", json=body | {"stream": True}, headers=keyed()) as response:
            if response.status_code == 429:
                return None
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    text += json.loads(line[6:])["choices"][0]["text"]
        return text

    async def _refused(self, http: httpx.AsyncClient, status: int, **options: Any) -> None:
        options = {"headers": keyed() | {"Content-Type": "application/json"}} | options
        response = await http.post("/v1/completions", **options)
        well_formed = response.status_code == status and "message" in response.json().get("error", {})
        self.check(well_formed, f"expected {status}, got {response.status_code} {response.text[:200]}")

    def growth(self) -> float:
        """Of memory: the last quarter against the second, in parts of one."""
        quarter = max(1, len(self.rss) // 4)
        return median(self.rss[-quarter:]) / median(self.rss[quarter : 2 * quarter]) - 1


def request(prompt: str) -> dict[str, Any]:
    """A greedy completion."""
    return {"prompt": prompt, "max_tokens": PIECE, "temperature": 0}


def keyed() -> dict[str, str]:
    """The header with the key."""
    return {"Authorization": f"Bearer {KEY}"}


async def _chunks(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def known_texts(folder: Path) -> dict[str, list[str]]:
    """For each prompt the pieces of its greedy text, as the model writes them without a server."""
    model = unmul.load(folder)
    greedy = unmul.SamplingParams(temperature=0)
    texts = {}
    for prompt in PROMPTS:
        lengths = range(PIECE, PIECE * (PIECES + 1), PIECE)
        wholes = ["".join(model.generate(prompt, max_new_tokens=new, sampling=greedy)) for new in lengths]
        texts[prompt] = [whole[len(before) :] for before, whole in zip(["", *wholes[:-1]], wholes, strict=True)]
    return texts


def main() -> None:
    """Soak, report, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="default", help="default, or a folder with a tokenizer")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--clients", type=int, default=24)
    options = parser.parse_args()
    os.environ[KEY_VARIABLE] = KEY
    with model_folder(options.model) as folder:
        texts = known_texts(folder)
        # Little memory for states, so that it is full before the second half.
        with serving(folder, "--api-key-env", KEY_VARIABLE, "--state-memory", "2", "--queue", "16") as served:
            soak = Soak(served, texts)
            asyncio.run(soak.run(options.clients, options.seconds))
    print(
        f"{sum(soak.done.values())} acts: " + ", ".join(f"{name} {count}" for name, count in sorted(soak.done.items()))
    )
    print(f"memory {soak.rss[0] / 1e6:.1f} to {soak.rss[-1] / 1e6:.1f} MB, growth {soak.growth():+.1%}")
    print(f"{len(soak.faults)} faults", *soak.faults[:10], sep="\n")
    sys.exit(bool(soak.faults) or soak.growth() > 0.05)


if __name__ == "__main__":
    main()
