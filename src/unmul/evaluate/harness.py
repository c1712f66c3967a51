"""Any engine as a model of lm-eval, the field's evaluation harness."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from tokenizers import Tokenizer

from unmul.data.tokenizer import encode_all
from unmul.engine.sampler import Sampler, SamplingParams
from unmul.errors import ConfigError
from unmul.evaluate.bits import Document, Predictor, measure_document
from unmul.evaluate.score import Pair, Score, score

__all__ = ["HarnessLM", "Meter", "OpenMeter"]

DEFAULT_NEW_TOKENS = 256  # lm-eval's own, where a task does not say
SEED = 1234  # of tasks that sample; lm-eval's own


class Meter(Protocol):
    """Shows how much of a known amount of work is done; a context manager."""

    def __enter__(self) -> Meter: ...

    def __exit__(self, *raised: object) -> None: ...

    def update(self, done: int, remark: str) -> None:
        """Show how much is done in all."""


OpenMeter = Callable[[str, int], Meter]  # from a label and the amount of work


class HarnessLM(TemplateLM):  # type: ignore[misc]  # lm-eval has no types
    """An engine and its tokenizer. Texts begin after the begin token; none is cut, for the state has no length.

    Raises:
        ConfigError: the model has no begin token.
    """

    def __init__(self, engine: Predictor[Any], tokenizer: Tokenizer, open_meter: OpenMeter) -> None:
        super().__init__()
        begin = engine.config.begin_token_id
        if begin is None:
            raise ConfigError("the model has no begin or end token", "set eos_token_id in its config.json")
        self._engine, self._begin, self._tokenizer = engine, begin, tokenizer
        self._open_meter = open_meter

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        end = self._engine.config.eos_token_id
        return self._begin if end is None else end

    @property
    def prefix_token_id(self) -> int:
        """The token that stands for an empty context."""
        return self._begin

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids, after the begin token unless special ones are not wanted."""
        ((ids, _size),) = encode_all(self._tokenizer, [string])
        return ids if add_special_tokens is False else [self._begin, *ids]

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """Of each (context, continuation): the continuation's log-probability, and whether it is the greedy one."""
        found: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return found

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], **_: Any
    ) -> list[tuple[float, bool]]:
        scores = [Score(0.0, True)] * len(requests)
        pairs = [Pair(context, continuation) for _texts, context, continuation in requests]
        with self._open_meter("eval", len(pairs)) as meter:
            for done, (index, found) in enumerate(score(self._engine, pairs), 1):
                scores[index] = found
                meter.update(done, f"{done:,} of {len(pairs):,} continuations")
        return [(found.log_probability, found.greedy) for found in scores]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = True) -> list[float]:
        """Log-probability of each whole text, from an empty state and of any length: there are no windows."""
        found = []
        with self._open_meter("eval", len(requests)) as meter:
            for done, request in enumerate(requests, 1):
                ids = self.tok_encode(request.args[0], add_special_tokens=False)
                bits = measure_document(self._engine, Document(ids, 0), self._begin).bits
                found.append(-bits * math.log(2))
                meter.update(done, f"{done:,} of {len(requests):,} texts")
        return found

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """Text after each context up to a stop string, the end token or max_gen_toks; greedy unless do_sample."""
        found = []
        with self._open_meter("eval", len(requests)) as meter:
            for done, request in enumerate(requests, 1):
                found.append(self._generate(*request.args))
                meter.update(done, f"{done:,} of {len(requests):,} texts")
        return found

    def _generate(self, context: str, options: dict[str, Any]) -> str:
        until = options.get("until") or []
        stops = [until] if isinstance(until, str) else until
        sampler = Sampler(_sampling(options))
        state = self._engine.new_state()
        logits_V = self._engine.forward(self.tok_encode(context), state)
        ids: list[int] = []
        text = ""
        while len(ids) < int(options.get("max_gen_toks", DEFAULT_NEW_TOKENS)) and not any(
            stop in text for stop in stops
        ):
            if (token := sampler.sample(logits_V)) == self.eot_token_id:
                break
            ids.append(token)
            text = self._tokenizer.decode(ids)
            logits_V = self._engine.forward([token], state)
        return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]


def _sampling(options: dict[str, Any]) -> SamplingParams:
    temperature = float(options.get("temperature", 1.0)) if options.get("do_sample") else 0.0
    return SamplingParams(
        temperature=temperature, top_k=int(options.get("top_k", 0)), top_p=float(options.get("top_p", 1.0)), seed=SEED
    )
