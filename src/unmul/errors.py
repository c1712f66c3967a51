"""The one exception tree. Every message says what is wrong (field and value) and what to do about it."""

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DataError",
    "EngineError",
    "GatewareError",
    "MissingExtraError",
    "TokenizerError",
    "TrainingError",
    "UnmulError",
    "UsageError",
]


class UnmulError(Exception):
    """Base of everything that unmul raises on purpose.

    Args:
        problem: the field or file and the value that is wrong, without a final full stop.
        remedy: what the reader can do next.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}: {remedy}")
        self.problem = problem
        self.remedy = remedy


class UsageError(UnmulError):
    """A command or a call was given arguments that cannot be served."""


class ConfigError(UnmulError):
    """A model or recipe field has a value that the model cannot have."""


class CheckpointError(UnmulError):
    """A checkpoint folder is incomplete, damaged or of the wrong kind."""


class TokenizerError(UnmulError):
    """A tokenizer is missing, damaged or does not fit the model."""


class DataError(UnmulError):
    """Training or evaluation text cannot be used."""


class TrainingError(UnmulError):
    """A training run cannot go on; what was saved is sound."""


class EngineError(UnmulError):
    """A native engine cannot run here or failed its self-test."""


class GatewareError(UnmulError):
    """An accelerator cannot be built, does not hold the model, or was given a broken program."""


class MissingExtraError(UnmulError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed", f"pip install 'unmul[{extra}]'")
