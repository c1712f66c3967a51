"""train.flops: sizes are those of the real models, FLOPs follow the documented formula."""

import pytest
import torch
from transformers import LlamaForCausalLM

from unmul.config import PRESETS, ModelConfig
from unmul.model import MatMulFreeLM
from unmul.train.baseline import llama_config
from unmul.train.flops import peak_flops, size

ODD = ModelConfig(vocab_size=131, hidden_size=64, intermediate_size=77, num_hidden_layers=3)


@pytest.mark.parametrize("shape", [ODD, PRESETS["2.7b"]], ids=["odd", "2.7b"])
@pytest.mark.parametrize("kind", ["matmulfree", "transformer"])
def test_parameters_are_counted_as_the_models_have_them(kind, shape):
    with torch.device("meta"):
        model = MatMulFreeLM(shape) if kind == "matmulfree" else LlamaForCausalLM(llama_config(shape))
    found = {name: parameter.numel() for name, parameter in model.named_parameters()}
    tables = [count for name, count in found.items() if "embed" in name or name == "lm_head.weight"]
    assert len(tables) == 2
    assert size(kind, shape, 8).parameters == sum(found.values())
    assert size(kind, shape, 8).inner == sum(found.values()) - sum(tables)


def test_a_token_costs_six_flops_a_product_and_the_transformer_its_attention():
    products = 3 * (4 * 64 * 64 + 3 * 64 * 77) + 131 * 64
    assert size("matmulfree", ODD, 8).flops_per_token == size("matmulfree", ODD, 999).flops_per_token == 6 * products
    pairs = 1 + 2 + 3 + 4 + 5 + 6 + 7 + 8  # keys that the queries of eight tokens meet
    attention = 3 * 3 * pairs * 4 * 64 // 8  # layers, passes, 2 D for a score and 2 D for its value
    assert size("transformer", ODD, 8).flops_per_token == 6 * products + attention


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", 835e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("Tesla T4", None),
    ],
)
def test_the_peak_is_that_of_the_named_gpu(monkeypatch, name, peak):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak_flops(torch.device("cuda")) == peak
    assert peak_flops(torch.device("cpu")) is None
