"""An exponential moving average of the weights: after each step, average = decay average + (1 - decay) weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor
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

    def restore(self, weights: Mapping[str, Tensor]) -> None:
        """Go on from the averaged weights of a checkpoint."""
        self.model.load_state_dict(weights)
        self._averaged.n_averaged.fill_(1)  # 0 would make the next update a copy
