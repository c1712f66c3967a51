"""The kinds of model that a recipe can name."""

from __future__ import annotations

from unmul.train.family import MATMULFREE, Family

__all__ = ["family"]


def family(kind: str) -> Family:
    """The family that a recipe's model.type names, one of recipe.TYPES."""
    if kind == "matmulfree":
        return MATMULFREE
    from unmul.train import ablation, baseline  # these load transformers

    return {
        "transformer": baseline.TRANSFORMER,
        "matmulfree-full": ablation.MATMULFREE_FULL,
        "transformer-ternary": ablation.TRANSFORMER_TERNARY,
    }[kind]
