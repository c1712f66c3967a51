"""An exponential moving average of the weights: after each step, average = decay average + (1 - decay) weights."""

from __future__ import annotations

from typing import cast

from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from unmul.train.family import LanguageModel

__all__ = ["Average"]


class Average:
    """The average of a model's weights, float32 like them; it begins as the weights after the first step."""

    def __init__(self, model: LanguageModel, decay: float) -> None:
        self._averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))

    @property
    def model(self) -> LanguageModel:
        """A model with the averaged weights."""
        return cast("LanguageModel", self._averaged.module)

    def update(self, model: LanguageModel) -> None:
        """Take in the weights after a step."""
        self._averaged.update_parameters(model)

    def resume(self) -> None:
        """Go on from averaged weights that were put into the model: without this, the next update would be a copy."""
        self._averaged.n_averaged.fill_(1)
