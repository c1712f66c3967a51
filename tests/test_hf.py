"""Transformers' own entry points on our checkpoints: load, save, generate, train."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from models import TINY, WIDE, latent_folder, latent_tensors
from tolerance import FLOAT32_SUMS, GOLDEN, relative_l2
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments

from unmul.checkpoint import pack, read_config, read_latent, unpack
from unmul.checkpoint.tensorfile import TensorFile
from unmul.config import ModelConfig
from unmul.errors import CheckpointError, UsageError
from unmul.hf import HGRNBitConfig, HGRNBitForCausalLM, RecurrentCache
from unmul.model import load_model
from unmul.ops.ternarise.held import ternary_operand

IDS = torch.tensor([[5, 9, 77, 130, 2, 41, 8], [3, 3, 60, 1, 100, 7, 22]])


@pytest.fixture(scope="module")
def model(latent: Path) -> HGRNBitForCausalLM:
    return AutoModelForCausalLM.from_pretrained(latent)


def greedy(folder: Path, ids: torch.Tensor, new: int) -> torch.Tensor:
    """Greedy continuation by unmul.model alone."""
    plain = load_model(folder)
    with torch.no_grad():
        output, found = plain(ids), [ids]
        for _ in range(new):
            found.append(output.logits[:, -1:].argmax(-1))
            output = plain(found[-1], output.state)
    return torch.cat(found, 1)


def test_generate_ternarises_weights_once(latent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kernel asks for at each token is what was made at the first; afterwards it is made anew."""
    model, seen = AutoModelForCausalLM.from_pretrained(latent), []

    def forward(*args: object, **kwargs: object) -> object:
        seen.append(ternary_operand([model.lm_head.projection])[0])
        return HGRNBitForCausalLM.forward(model, *args, **kwargs)

    monkeypatch.setattr(model, "forward", forward)
    model.generate(IDS, max_new_tokens=4, do_sample=False)
    assert len(seen) == 4
    assert all(codes is seen[0] for codes in seen)
    assert ternary_operand([model.lm_head.projection])[0] is not seen[0]


def test_auto_classes_find_config_and_model(latent: Path, model: HGRNBitForCausalLM) -> None:
    config = AutoConfig.from_pretrained(latent)
    assert isinstance(config, HGRNBitConfig)
    assert config.shape == TINY
    assert isinstance(model, HGRNBitForCausalLM)
    assert {name: tuple(p.shape) for name, p in model.named_parameters()} == TINY.tensor_shapes


def test_config_written_by_transformers_is_read_by_us(tmp_path: Path) -> None:
    HGRNBitConfig(hidden_size=96, pad_token_id=0).save_pretrained(tmp_path)
    assert read_config(tmp_path)[0] == ModelConfig(hidden_size=96, pad_token_id=0)
    (tmp_path / "config.json").write_text(json.dumps(HGRNBitConfig(hidden_size=96).to_dict(), default=str))
    assert read_config(tmp_path)[0] == ModelConfig(hidden_size=96)


@torch.no_grad()
def test_a_model_with_every_option_is_the_plain_one_with_three_gains(tmp_path: Path) -> None:
    folder = latent_folder(tmp_path / "m", replace(TINY, use_shared_norm=True, use_state_norm=True))
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(loaded(IDS).logits, load_model(folder)(IDS).logits)
    loaded.save_pretrained(tmp_path / "saved")
    assert read_latent(tmp_path / "saved")[0] == replace(TINY, use_state_norm=True)


@torch.no_grad()
def test_a_wider_token_mixer_goes_through_transformers_unchanged(wide: Path, wide_packed: Path, tmp_path: Path) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(wide)
    assert loaded.config.shape == WIDE
    assert torch.equal(loaded(IDS).logits, load_model(wide)(IDS).logits)
    assert loaded(IDS).cache.state_LBE.shape == (3, 2, 84)
    written = loaded.generate(IDS, do_sample=False, max_new_tokens=6, eos_token_id=None, pad_token_id=0)
    assert torch.equal(written, greedy(wide, IDS, 6))
    loaded.save_pretrained(tmp_path)
    config, tensors, _ = read_latent(tmp_path)
    assert config == WIDE
    assert all((tensors[name] == array).all() for name, array in latent_tensors(WIDE).items())
    packed = AutoModelForCausalLM.from_pretrained(wide_packed)
    assert torch.equal(packed(IDS).logits, load_model(wide_packed)(IDS).logits)


@torch.no_grad()
def test_logits_are_those_of_the_plain_model(latent: Path, model: HGRNBitForCausalLM) -> None:
    assert torch.equal(model(IDS).logits, load_model(latent)(IDS).logits)


@pytest.mark.parametrize("size", ["100KB", "5GB"])
def test_what_save_pretrained_writes_is_read_by_us(tmp_path: Path, model: HGRNBitForCausalLM, size: str) -> None:
    model.save_pretrained(tmp_path, max_shard_size=size)
    assert (tmp_path / "model.safetensors.index.json").exists() == (size == "100KB")
    config, tensors, final = read_latent(tmp_path)
    assert (config, final) == (TINY, False)
    for name, array in latent_tensors().items():
        assert (tensors[name] == array).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_shards_that_we_write_are_loaded(tmp_path: Path, dtype: str) -> None:
    folder = latent_folder(tmp_path / "m", dtype=dtype, shard_bytes=50_000)
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert loaded.dtype == getattr(torch, dtype)
    for name, array in latent_tensors().items():
        assert torch.equal(loaded.get_parameter(name), torch.from_numpy(array).to(loaded.dtype))


def test_parameters_that_are_missing_are_drawn_and_the_others_kept(tmp_path: Path, model: HGRNBitForCausalLM) -> None:
    state = {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    loaded, report = HGRNBitForCausalLM.from_pretrained(
        None, config=model.config, state_dict=state, output_loading_info=True
    )
    assert set(report["missing_keys"]) == {"lm_head.weight"}
    assert 0.015 < loaded.lm_head.weight.std() < 0.025
    for name, tensor in state.items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_from_config_draws_fresh_weights() -> None:
    fresh = AutoModelForCausalLM.from_config(HGRNBitConfig(**TINY.to_dict()))
    assert 0.015 < fresh.model.embeddings.weight.std() < 0.025
    assert (fresh.model.layers[0].attn_norm.weight == 1).all()
    assert (fresh.model.lower_bounds == 0).all()


def test_generate_gives_the_reference_continuation(golden: Path) -> None:
    vectors = TensorFile(golden / "vectors.safetensors")
    ids = torch.from_numpy(vectors["input_ids"][:, :8].astype(np.int64))
    found = AutoModelForCausalLM.from_pretrained(golden).generate(
        ids, do_sample=False, max_new_tokens=24, attention_mask=torch.ones_like(ids), eos_token_id=None
    )
    assert found.tolist() == vectors["greedy"].tolist()


def test_generation_reads_each_token_once(model: HGRNBitForCausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = []
    forward = model.model.forward

    def count(ids: torch.Tensor, *rest: torch.Tensor) -> object:
        lengths.append(ids.shape[1])
        return forward(ids, *rest)

    monkeypatch.setattr(model.model, "forward", count)
    model.generate(IDS, do_sample=False, max_new_tokens=6, eos_token_id=None, pad_token_id=0)
    assert lengths == [7, 1, 1, 1, 1, 1]


def test_greedy_generation_with_left_padding_equals_one_by_one(latent: Path, model: HGRNBitForCausalLM) -> None:
    prompts = [IDS[0, :7], IDS[1, :3]]
    batch = torch.stack([F.pad(ids, (7 - len(ids), 0)) for ids in prompts])
    mask = torch.stack([F.pad(torch.ones_like(ids), (7 - len(ids), 0)) for ids in prompts])
    found = model.generate(
        batch, attention_mask=mask, do_sample=False, max_new_tokens=9, eos_token_id=None, pad_token_id=0
    )
    for row, ids in zip(found, prompts, strict=True):
        assert row[7:].tolist() == greedy(latent, ids[None], 9)[0, len(ids) :].tolist()


def test_sampling_is_repeatable_by_seed(model: HGRNBitForCausalLM) -> None:
    def sample(seed: int) -> list[list[int]]:
        torch.manual_seed(seed)
        options = {"do_sample": True, "top_k": 20, "num_return_sequences": 3, "pad_token_id": 0}
        return model.generate(IDS[:1], max_new_tokens=8, eos_token_id=None, **options).tolist()

    assert sample(1) == sample(1) != sample(2)
    assert len(sample(1)) == 3


def test_beam_search_finds_what_exhaustive_scoring_confirms(model: HGRNBitForCausalLM) -> None:
    """Every beam's score is the log-probability of its own tokens: states followed their beams."""
    found = model.generate(
        IDS, num_beams=4, num_return_sequences=4, do_sample=False, max_new_tokens=6, eos_token_id=None, pad_token_id=0,
        length_penalty=0.0, return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    with torch.no_grad():
        log_probabilities = model(found.sequences).logits.log_softmax(-1)
    new = found.sequences[:, 7:]
    scores = log_probabilities[:, 6:-1].gather(-1, new[..., None]).sum((1, 2))
    assert relative_l2(found.sequences_scores, scores) < GOLDEN
    greedy_ids = model.generate(IDS, do_sample=False, max_new_tokens=6, eos_token_id=None, pad_token_id=0)
    with torch.no_grad():
        log_probabilities = model(greedy_ids).logits.log_softmax(-1)
    single = log_probabilities[:, 6:-1].gather(-1, greedy_ids[:, 7:, None]).sum((1, 2))
    assert (found.sequences_scores.view(2, 4)[:, 0] >= single - 1e-4).all()


@torch.no_grad()
def test_cache_is_one_state_of_constant_size(model: HGRNBitForCausalLM) -> None:
    cache = model(IDS).cache
    assert isinstance(cache, RecurrentCache)
    assert cache.get_seq_length() == 7
    for _ in range(3):
        cache = model(IDS[:, :1], cache=cache).cache
    assert cache.get_seq_length() == 10
    assert (cache.state_LBE.shape, cache.state_LBE.dtype) == ((3, 2, 42), torch.float32)
    assert model(IDS, use_cache=False).cache is None


@torch.no_grad()
def test_cache_answers_to_its_old_name_too(model: HGRNBitForCausalLM) -> None:
    before = model(IDS)
    new, old = (
        model(IDS[:, :1], **{name: copy.copy(before.past_key_values)}).logits for name in ("cache", "past_key_values")
    )
    assert torch.equal(new, old)


@torch.no_grad()
def test_cache_branches_by_copy_and_never_steps_back(model: HGRNBitForCausalLM) -> None:
    cache = model(IDS).cache
    branch, before = copy.copy(cache), cache.state_LBE.clone()
    model(IDS, cache=branch)
    assert torch.equal(cache.state_LBE, before)
    assert (cache.get_seq_length(), branch.get_seq_length(), cache.batch_size) == (7, 14, 2)
    with pytest.raises(UsageError, match="copy the cache"):
        cache.crop(-1)
    assert not cache.is_croppable
    cache.batch_repeat_interleave(2)
    cache.reorder_cache(torch.tensor([3, 0]))
    assert torch.equal(cache.state_LBE, before[:, [1, 0]])
    cache.reset()
    assert (cache.state_LBE == 0).all()
    assert cache.get_seq_length() == 0


def test_conversation_goes_on_from_its_cache(model: HGRNBitForCausalLM) -> None:
    options = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0, "return_dict_in_generate": True}
    first = model.generate(IDS, max_new_tokens=4, **options)
    asked = torch.cat([first.sequences, IDS[:, :3]], 1)
    continued = model.generate(asked, max_new_tokens=5, cache=first.cache, **options)
    anew = model.generate(asked, max_new_tokens=5, **options)
    assert continued.sequences.tolist() == anew.sequences.tolist()


def test_assisted_decoding_is_refused_clearly(model: HGRNBitForCausalLM) -> None:
    with pytest.raises(ValueError, match="stateful"):
        model.generate(IDS[:1], assistant_model=model, max_new_tokens=2)


def test_embeddings_as_input_are_refused_clearly(model: HGRNBitForCausalLM) -> None:
    with pytest.raises(UsageError, match="input_ids"):
        model(inputs_embeds=torch.zeros(1, 2, 42))


@torch.no_grad()
def test_labels_give_the_shifted_cross_entropy(model: HGRNBitForCausalLM) -> None:
    labels = IDS.clone()
    labels[0, :3] = -100
    output = model(IDS, labels=labels)
    expected = F.cross_entropy(output.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
    assert float(output.loss) == pytest.approx(float(expected), rel=FLOAT32_SUMS)
    assert float(model(IDS, labels=labels, return_dict=False)[0]) == float(output.loss)


@torch.no_grad()
def test_only_the_asked_logits_and_hidden_states_are_returned(model: HGRNBitForCausalLM) -> None:
    whole = model(IDS, output_hidden_states=True)
    assert len(whole.hidden_states) == TINY.num_hidden_layers + 1
    assert model(IDS).hidden_states is None
    for keep in (1, 3, torch.tensor([0, 5])):
        expected = whole.logits[:, -keep:] if isinstance(keep, int) else whole.logits[:, keep]
        assert relative_l2(model(IDS, logits_to_keep=keep).logits, expected) < FLOAT32_SUMS


def test_gradient_checkpointing_runs_each_layer_again_and_changes_no_gradient(latent: Path) -> None:
    gradients, runs = [], []
    for checkpointing in (False, True):
        model = AutoModelForCausalLM.from_pretrained(latent).train()
        if checkpointing:
            enable = getattr(model, "activation_checkpointing_enable", None)  # the newer name
            (enable or model.gradient_checkpointing_enable)()
        runs.append([])
        model.model.layers[1].register_forward_pre_hook(lambda *_: runs[-1].append(1))
        model(IDS, labels=IDS).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert [len(run) for run in runs] == [1, 2]
    for name in gradients[0]:
        assert torch.equal(gradients[0][name], gradients[1][name])


def test_trainer_trains_saves_and_loads(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_config(HGRNBitConfig(**TINY.to_dict()))
    arguments = TrainingArguments(
        tmp_path / "run", max_steps=30, per_device_train_batch_size=4, learning_rate=1e-2, logging_steps=1,
        report_to=[], disable_tqdm=True, save_strategy="no", use_cpu=True, seed=0, eval_strategy="steps", eval_steps=30,
        dataloader_pin_memory=False, lr_scheduler_type="constant",
    )  # fmt: skip
    rows = [{"input_ids": (IDS[0] + k % 3).tolist(), "labels": (IDS[0] + k % 3).tolist()} for k in range(12)]
    rows = [
        {"input_ids": [t % 131 for t in row["input_ids"]], "labels": [t % 131 for t in row["labels"]]} for row in rows
    ]
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.5 * losses[0]
    trainer.save_model(str(tmp_path / "saved"))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    with torch.no_grad():
        assert torch.equal(loaded(IDS).logits, model.eval()(IDS).logits)
    pack(tmp_path / "saved", tmp_path / "packed")


@pytest.mark.parametrize("kind", ["packed", "unpacked"])
def test_fixed_codes_are_loaded_as_they_are(packed: Path, tmp_path: Path, kind: str) -> None:
    folder = packed
    if kind == "unpacked":
        unpack(packed, folder := tmp_path / "u")
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, load_model(packed)(IDS).logits)
    found = model.generate(IDS, do_sample=False, max_new_tokens=5, eos_token_id=None, pad_token_id=0)
    assert found.tolist() == greedy(packed, IDS, 5).tolist()
    with pytest.raises(CheckpointError, match="no latent weights"):
        model.save_pretrained(tmp_path / "again")
    with pytest.raises(UsageError, match="float16"):
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float16)
