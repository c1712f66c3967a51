"""Recipes: a TOML file with [model], [data] and [train], read into frozen dataclasses; anything unknown is refused."""

from __future__ import annotations

import difflib
import glob
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, get_type_hints

from unmul.config import ModelConfig
from unmul.data import Dataset, Files, Source
from unmul.errors import ConfigError, DataError
from unmul.train.start import starting_model, starting_tokenizer

__all__ = ["TYPES", "DataPart", "Recipe", "TrainPart", "load_recipe"]

# What the tokenizer and the batches decide: not for the recipe's [model].
DERIVED = {"vocab_size", "bos_token_id", "eos_token_id", "pad_token_id", "max_position_embeddings"}
CHOICES = {
    "schedule": ("cosine", "wsd"),
    "optimizer": ("adamw", "muon"),
    "dtype": ("bf16", "fp32"),
    "device": ("auto", "cpu", "cuda"),
    "parallel": ("auto", "ddp", "fsdp"),
}
TYPES = ("matmulfree", "transformer", "matmulfree-full", "transformer-ternary")
TRACKERS = ("tensorboard", "trackio", "wandb")
RIVALS = {"text": "dataset", "dataset": "text"}  # --set of one takes the place of the other
NAMES = {Dataset: "a name or a table", tuple[Path, ...]: "files", tuple[str, ...]: "a list"}  # of types, in errors


@dataclass(frozen=True, kw_only=True, slots=True)
class DataPart:
    """[data]: text and vocabulary; paths are relative to the recipe file, or to the caller's folder in --set.

    Args:
        text: training files: text, JSONL or Parquet by their suffix, plain or compressed.
        dataset: a Hugging Face dataset instead.
        field: of a row of JSONL, Parquet or the dataset, the one with the text.
        validation: files or a dataset that training never sees, or the share of the training documents to keep apart.
        vocab_size: entries of the byte-level vocabulary that is learned from the training documents.
        tokenizer: an existing tokenizer.json instead.
        end_token: its token that begins and ends documents, where it has none of the known names.
        shards: folder of the token files; `shards` in the run's folder when left out. Without text and dataset it must
            hold some already.
    """

    text: tuple[Path, ...] = ()
    dataset: Dataset | None = None
    field: str = "text"
    validation: tuple[Path, ...] | Dataset | float = 0.01
    vocab_size: int = 4096
    tokenizer: Path | None = None
    end_token: str | None = None
    shards: Path | None = None

    def __post_init__(self) -> None:
        if isinstance(self.validation, float):
            _require("data.validation", self.validation, 0 < self.validation < 1, "a share between 0 and 1, or files")
        if self.text and self.dataset:
            raise ConfigError("data.text and data.dataset are both given", "give files or a dataset")
        if not (self.text or self.dataset or self.shards):
            raise ConfigError("data.text and data.dataset are both missing", "give files, a dataset or data.shards")
        if self.end_token and not self.tokenizer:
            raise ConfigError(f"data.end_token {self.end_token!r} has no data.tokenizer", "give both, or neither")

    @property
    def source(self) -> Source | None:
        """What the shards are made of, or None: they are taken as they are. Refuses files that are not there."""
        if not (self.text or self.dataset):
            return None
        held_out = self.validation
        return Source(
            text=self.dataset or self._files("text", self.text),
            validation=self._files("validation", held_out) if isinstance(held_out, tuple) else held_out,
            vocab_size=self.vocab_size,
            tokenizer=self.tokenizer,
            end_token=self.end_token,
        )

    def _files(self, key: str, paths: tuple[Path, ...]) -> Files:
        for path in paths:
            if not path.is_file():
                problem = "is a folder, not a file" if path.is_dir() else "does not exist"
                own = "--set data.text=FILE --set data.validation=0.01"
                raise DataError(f"data.{key} {path} {problem}", f"train on a text of your own: {own}")
        return Files(paths=paths, field=self.field)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainPart:
    """[train]: the optimisation. Steps count optimizer updates; shares are of all steps.

    Args:
        batch: windows a micro-batch, over all processes. accumulate: micro-batches an update. context: tokens a window.
        lr: the highest learning rate. warmup: share of steps that rises to it. floor: share of it at the end.
        schedule: "cosine", or "wsd": constant until the last steps. second_stage: share of steps after which the
            cosine is halved; 1 never halves. cooldown: share of steps in which wsd falls to the floor.
        optimizer: "adamw", or "muon" for the projections of the layers and AdamW for the rest.
        weight_decay: of projections only; gains, bounds and embeddings have none. decay_until: share of steps after
            which there is none.
        clip: largest norm of the gradient.
        document_mask: every document starts from an empty state, also within a window.
        max_seconds: save and end once a process has trained for so long; 0 never does.
        keep: how many checkpoints to keep. async_checkpoint: go on training while one is written.
        ema: decay a step of an average of the weights, which is measured and saved beside them; 0 keeps none.
        trackers: services that receive what the log receives.
        device: "auto" takes a GPU where there is one.
        parallel: how several processes share the model; "auto" gives each a copy (ddp) where it fits easily.
        compile: torch.compile of every layer.
        graph: on one GPU, record a step's passes once as a CUDA graph and replay them.
        checkpoint_activations: keep only the input of each layer, and compute the rest again in the backward pass.
        int8_backward: round gradients to 8 bits for both backward products of every ternary projection but the head.
        unrounded: share of steps, the first ones, in which neither weights nor activations are rounded.
        embedding_range: standard deviation of fresh embeddings; 0 takes what the kind of model begins with.
        init: a latent or packed folder whose weights, shape and tokenizer the run starts from; else weights are random.
    """

    steps: int
    batch: int = 16
    accumulate: int = 1
    context: int = 256
    lr: float = 4e-3
    warmup: float = 0.05
    floor: float = 0.1
    schedule: str = "cosine"
    second_stage: float = 0.5
    cooldown: float = 0.2
    optimizer: str = "adamw"
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1
    decay_until: float = 1.0
    clip: float = 1.0
    dtype: str = "bf16"
    document_mask: bool = True
    seed: int = 1
    max_seconds: float = 0.0
    validate_every: int = 200
    checkpoint_every: int = 200
    keep: int = 2
    ema: float = 0.0
    trackers: tuple[str, ...] = ()
    async_checkpoint: bool = False
    device: str = "auto"
    parallel: str = "auto"
    compile: bool = False
    graph: bool = True
    checkpoint_activations: bool = False
    int8_backward: bool = False
    unrounded: float = 0.0
    embedding_range: float = 0.0
    init: Path | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "context", "validate_every", "checkpoint_every", "keep"):
            _require(f"train.{name}", getattr(self, name), getattr(self, name) >= 1, "a whole number of at least 1")
        for name in ("lr", "clip"):
            _require(f"train.{name}", getattr(self, name), 0 < getattr(self, name) < math.inf, "a number above 0")
        for name in ("warmup", "floor", "second_stage", "cooldown", "decay_until"):
            _require(f"train.{name}", getattr(self, name), 0 <= getattr(self, name) <= 1, "a share from 0 to 1")
        for name in ("beta1", "beta2", "ema", "unrounded"):
            _require(f"train.{name}", getattr(self, name), 0 <= getattr(self, name) < 1, "a number from 0 to below 1")
        for name in ("weight_decay", "max_seconds", "embedding_range"):
            _require(f"train.{name}", getattr(self, name), 0 <= getattr(self, name) < math.inf, "0 or a number above")
        _require("train.seed", self.seed, self.seed >= 0, "a whole number of at least 0")
        for name in self.trackers:
            _require("train.trackers", name, name in TRACKERS, " or ".join(TRACKERS))
        for name, values in CHOICES.items():
            _require(f"train.{name}", getattr(self, name), getattr(self, name) in values, " or ".join(values))

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one optimizer update learns from."""
        return self.batch * self.accumulate * self.context


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Everything that decides a run. The shape's vocabulary and token ids come from the tokenizer.

    Args:
        kind: model.type in the file: "matmulfree", "transformer" for a Llama of the same shape, or one of the two
            between them, "matmulfree-full" (weights of full precision) and "transformer-ternary" (BitLinear).
        model: the fields of the shape.
    """

    name: str
    kind: str
    model: Mapping[str, Any]
    data: DataPart
    train: TrainPart

    def model_config(self, vocab_size: int, end: int) -> ModelConfig:
        """The model's shape for a vocabulary whose end token begins and ends every document."""
        return ModelConfig(
            **self.model,
            vocab_size=vocab_size,
            bos_token_id=end,
            eos_token_id=end,
            max_position_embeddings=self.train.context,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for checkpoints; texts by their file names, for a checkpoint is given away."""
        return _plain(
            {
                "name": self.name,
                "model": {"type": self.kind, **self.model},
                "data": asdict(self.data),
                "train": asdict(self.train),
            }
        )


def load_recipe(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe file, with overrides such as "train.lr=0.01" (values as in TOML; bare words are strings)."""
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"recipe {path} does not exist", "give a TOML file, as in recipes/") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"recipe {path} cannot be read as TOML ({error})", "see docs/train.md") from None
    for name in raw:
        _require_known(name, ("model", "data", "train"), "section")
    parts = {name: _resolved(name, dict(_table(raw, name)), path.parent) for name in ("model", "data", "train")}
    for override in overrides:
        section, key, value = _override(override)
        if section == "data" and key in RIVALS:
            parts[section].pop(RIVALS[key], None)
        parts[section][key] = _resolved(section, {key: value}, Path())[key]
    kind = parts["model"].pop("type", TYPES[0])
    _require("model.type", kind, kind in TYPES, " or ".join(TYPES))
    if kind == "transformer" and parts["train"].get("int8_backward"):
        raise ConfigError("train.int8_backward needs ternary weights, a transformer has none", "leave it out")
    if kind != "matmulfree" and parts["train"].get("unrounded"):
        raise ConfigError(f"train.unrounded is for model.type matmulfree, this is {kind}", "leave it out")
    model = _typed(ModelConfig, "model", parts["model"], exclude=DERIVED)
    train = TrainPart(**_typed(TrainPart, "train", parts["train"]))
    if train.init:
        _require("train.init", str(train.init), kind == TYPES[0], f"model.type {TYPES[0]}")
        if train.embedding_range:
            problem = f"train.embedding_range {train.embedding_range} is of fresh embeddings, train.init brings its own"
            raise ConfigError(problem, "leave one of them out")
        model = starting_model(train.init, model)
        parts["data"].setdefault("tokenizer", starting_tokenizer(train.init))
    data = DataPart(**_typed(DataPart, "data", _with_datasets(parts["data"])))
    return Recipe(name=path.stem, kind=kind, model=model, data=data, train=train)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.name if isinstance(value, Path) else value


def _table(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = raw.get(name, {})
    if not isinstance(table, dict):
        raise ConfigError(f"recipe entry {name} = {table!r} is not a section", f"write [{name}]")
    return table


def _override(text: str) -> tuple[str, str, Any]:
    key, equals, value = text.partition("=")
    section, dot, name = key.strip().partition(".")
    if not equals or not dot:
        raise ConfigError(f"--set {text!r} is not an assignment", "write it as --set train.lr=0.01")
    _require_known(section, ("model", "data", "train"), "section")
    try:
        return section, name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return section, name, value


def _resolved(section: str, table: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Paths become absolute; a single file may stand for a list of one, a dataset's name for its table."""
    if section == "train" and isinstance(table.get("init"), str):
        table["init"] = (folder / table["init"]).resolve()
    if section != "data":
        return table
    for key, value in table.items():
        if key in ("text", "validation") and isinstance(value, str | list):
            table[key] = _matching(folder, [value] if isinstance(value, str) else value)
        elif key in ("tokenizer", "shards") and isinstance(value, str):
            table[key] = (folder / value).resolve()
        elif key in ("dataset", "validation") and isinstance(value, str | dict):
            table[key] = _located({"name": value} if isinstance(value, str) else value, folder)
    return table


def _matching(folder: Path, names: Iterable[object]) -> tuple[Path, ...]:
    """Files by name, or all that a pattern such as corpus/*.parquet matches."""
    paths: list[str] = []
    for name in map(str, names):
        found = sorted(glob.glob(str(folder / name), recursive=True)) if "*" in name else []
        paths += found or [str(folder / name)]
    return tuple(Path(path).resolve() for path in paths)


def _located(dataset: dict[str, Any], folder: Path) -> dict[str, Any]:
    name = dataset.get("name")
    local = isinstance(name, str) and (folder / name).is_dir()
    return {**dataset, "name": (folder / str(name)).resolve()} if local else dataset


def _with_datasets(table: dict[str, Any]) -> dict[str, Any]:
    """[data] with Dataset in place of tables; that of validation says what differs from data.dataset."""
    given = table.get("dataset")
    for key, defaults in (("dataset", {}), ("validation", given if isinstance(given, dict) else {})):
        if isinstance(table.get(key), dict):
            known = _typed(Dataset, f"data.{key}", {**defaults, **table[key]}, exclude=("field",))
            table = {**table, key: Dataset(**known, field=table.get("field", "text"))}
    return table


def _typed(kind: type, section: str, table: Mapping[str, Any], exclude: Iterable[str] = ()) -> dict[str, Any]:
    """The table with whole numbers widened to float where the field is one; wrong names and types are refused."""
    hints = {name: hint for name, hint in get_type_hints(kind).items() if name not in set(exclude)}
    for name in table:
        _require_known(name, tuple(hints), f"key in [{section}]:")
    for field in fields(kind):
        if field.default is MISSING and field.name not in table:
            raise ConfigError(f"{section}.{field.name} is missing", "add it to the recipe, or give it with --set")
    return {name: _value(f"{section}.{name}", value, hints[name]) for name, value in table.items()}


def _value(field: str, value: Any, hint: Any) -> Any:
    kinds = hint.__args__ if isinstance(hint, UnionType) else (hint,)
    origins = tuple(getattr(kind, "__origin__", kind) for kind in kinds)
    if isinstance(value, list) and tuple in origins:
        value = tuple(value)
    if float in origins and isinstance(value, int) and not isinstance(value, bool) and int not in origins:
        return float(value)
    fits = isinstance(value, origins) and (not isinstance(value, bool) or bool in origins)
    expected = (NAMES.get(kind) or kind.__name__ for kind in kinds if kind is not type(None))
    _require(field, value, fits, " or ".join(expected))
    return value


def _require_known(name: str, known: tuple[str, ...], what: str) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        raise ConfigError(
            f"unknown {what} {name!r}", f"did you mean {near[0]!r}?" if near else f"use {', '.join(known)}"
        )


def _require(field: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise ConfigError(f"{field} {value!r} cannot be used", f"expected {expected}")
