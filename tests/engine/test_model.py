"""`SharedPrefixModel` as an ordinary PeftModel: its adapters, its logits without labels, what trains and what not."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, PeftModel, PeftModelForCausalLM

from softprompt.engine.model import SharedPrefixModel
from tests.engine.architectures import METHODS, VIRTUAL_TOKENS, VOCABULARY, make_base, make_pair, with_prompt
from tests.engine.batches import BATCHES, alone, padded, rows_of

ROWS = BATCHES["common preamble"]
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}  # float32: sums in another order


def inputs() -> dict[str, torch.Tensor]:
    return {name: value for name, value in padded(ROWS).items() if name != "labels"}


def test_another_kind_of_adapter_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"IA3 is not known here; allowed: PROMPT_TUNING, P_TUNING, PREFIX_TUNING, LORA"
    ):
        SharedPrefixModel(make_base("llama"), IA3Config(task_type="CAUSAL_LM"))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gemma3"])
def test_without_labels_forward_is_pefts(architecture: str, method: str) -> None:
    ours, peft = make_pair(architecture, method)
    logits = ours(**inputs()).logits
    ahead = 0 if method.startswith("prefix") else VIRTUAL_TOKENS
    assert logits.shape == (3, ahead + 20, VOCABULARY)
    assert torch.equal(logits, peft(**inputs()).logits)


def test_arguments_that_packing_does_not_know_take_pefts_road() -> None:
    ours, peft = make_pair("llama", "prompt_tuning")
    output = ours(**padded(ROWS), output_hidden_states=True)
    assert torch.equal(output.loss, peft(**padded(ROWS)).loss)
    assert output.logits.shape == (3, VIRTUAL_TOKENS + 20, VOCABULARY)
    assert len(output.hidden_states) == 3
    embedded = ours.frozen.get_input_embeddings()(inputs()["input_ids"])
    logits = ours(inputs_embeds=embedded, attention_mask=inputs()["attention_mask"]).logits
    assert torch.equal(logits, output.logits)


def test_without_its_adapter_it_is_the_base_model() -> None:
    ours, _ = make_pair("llama", "prompt_tuning")
    base = make_base("llama")
    with ours.disable_adapter():
        assert torch.equal(ours(**inputs()).logits, base(**inputs()).logits)
        assert torch.equal(ours(**padded(ROWS)).loss, base(**padded(ROWS)).loss)
    assert ours(**padded(ROWS)).logits is None, "with it, the shared prefix is back"


@pytest.mark.parametrize("method", METHODS)
def test_training_changes_the_prompt_and_nothing_else(method: str) -> None:
    ours, _ = make_pair("llama", method, dtype=torch.float32)
    before = copy.deepcopy(ours.state_dict())
    ours.train()
    optimizer = torch.optim.AdamW([weight for weight in ours.parameters() if weight.requires_grad], lr=0.01)
    losses = []
    for _ in range(8):
        loss = ours(**padded(ROWS)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    changed = {name for name, weight in ours.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed == {name for name in before if name.startswith("prompt_encoder.")}


@pytest.mark.parametrize("method", METHODS)
def test_the_base_model_has_no_gradients(method: str) -> None:
    ours, _ = make_pair("gpt2", method)
    ours.train()
    ours(**padded(ROWS)).loss.backward()
    for name, weight in ours.named_parameters():
        assert weight.requires_grad == name.startswith("prompt_encoder."), name
        assert (weight.grad is not None) == weight.requires_grad, name


def test_dropout_in_the_base_model_stays_off() -> None:
    dropout = {"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1}
    ours, peft = make_pair("gpt2", "prompt_tuning", **dropout)
    for mode in (True, False):
        assert ours.train(mode) is ours
        assert ours.prompt_encoder.training == ours.training == mode
        assert not any(module.training for module in ours.frozen.modules())
        losses = [ours(**padded(ROWS)).loss.item() for _ in range(2)]
        assert losses[0] == losses[1] == pytest.approx(torch.cat(alone(peft, ROWS)).mean().item(), rel=1e-6)
    peft.train()
    assert peft(**padded(ROWS)).loss.item() != peft(**padded(ROWS)).loss.item(), "there is dropout to switch off"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_adapters_of_ours_load_in_plain_peft(architecture: str, method: str, tmp_path: Path) -> None:
    ours = with_prompt(SharedPrefixModel, make_base(architecture, torch.float32), method, seed=1)
    ours.save_pretrained(str(tmp_path))
    loaded = PeftModel.from_pretrained(make_base(architecture, torch.float32), str(tmp_path))
    assert type(loaded) is PeftModelForCausalLM
    logits = loaded(**inputs()).logits
    torch.testing.assert_close(logits, ours(**inputs()).logits, **CLOSE)
    other = with_prompt(PeftModelForCausalLM, make_base(architecture, torch.float32), method, seed=2).eval()
    assert not torch.allclose(logits, other(**inputs()).logits, **CLOSE), "another prompt has other logits"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_adapters_of_plain_peft_load_in_ours(architecture: str, method: str, tmp_path: Path) -> None:
    peft = with_prompt(PeftModelForCausalLM, make_base(architecture, torch.float32), method, seed=1).eval()
    peft.save_pretrained(str(tmp_path))
    ours = SharedPrefixModel.from_pretrained(make_base(architecture, torch.float32), str(tmp_path))
    assert type(ours) is SharedPrefixModel
    assert ours.packs_rows
    assert ours.shares_prefix
    assert not ours.training
    assert ours.peft_config["default"].inference_mode
    losses, of_row = ours.token_losses(rows_of("common preamble"))
    for at, right in enumerate(alone(peft, ROWS)):
        torch.testing.assert_close(losses[of_row == at].double(), right, **CLOSE)
    torch.testing.assert_close(ours(**inputs()).logits, peft(**inputs()).logits, **CLOSE)


@pytest.mark.parametrize("method", METHODS)
def test_a_saved_adapter_is_the_file_that_peft_saves(method: str, tmp_path: Path) -> None:
    ours, peft = make_pair("llama", method, dtype=torch.float32)
    for name, model in (("ours", ours), ("peft", peft)):
        model.save_pretrained(str(tmp_path / name))
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "ours" / name).read_bytes() == (tmp_path / "peft" / name).read_bytes()


def steps(model: SharedPrefixModel, device: str = "cpu") -> list[float]:
    """Losses of three steps of training."""
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=0.01)
    losses = []
    for _ in range(3):
        loss = model(**{name: value.to(device) for name, value in padded(ROWS).items()}).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def low_and_full(architecture: str, method: str) -> tuple[SharedPrefixModel, SharedPrefixModel]:
    """A bfloat16 base and one of the same (rounded) numbers in float32, behind the same float32 prompt."""
    low = make_base(architecture, torch.bfloat16)
    full = copy.deepcopy(low).float()
    models = with_prompt(SharedPrefixModel, low, method), with_prompt(SharedPrefixModel, full, method)
    for model in models:
        assert {weight.dtype for weight in model.prompt_encoder.parameters()} == {torch.float32}
    return models


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_a_float32_prompt_trains_before_a_bfloat16_model(architecture: str, method: str) -> None:
    low, full = low_and_full(architecture, method)
    assert low.packs_rows
    assert steps(low) == pytest.approx(steps(full), rel=2e-2)
    assert {weight.dtype for weight in low.prompt_encoder.parameters()} == {torch.float32}
    assert {weight.dtype for weight in low.frozen.parameters()} == {torch.bfloat16}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_a_gpu_in_bfloat16_follows_the_cpu_in_float32(architecture: str, method: str) -> None:
    low, full = low_and_full(architecture, method)
    low.cuda()
    assert steps(low, "cuda") == pytest.approx(steps(full), rel=2e-2)
    batch = {name: value.cuda() for name, value in inputs().items()}
    answers = low.generate(**batch, max_new_tokens=4, do_sample=False, pad_token_id=0)
    assert answers.shape == (3, 20 + 4)
    assert answers.is_cuda


def test_an_lstm_without_dropout_is_always_in_training_mode() -> None:
    """cudnn's backward refuses any other; the numbers are the same."""
    ours, _ = make_pair("llama", "p_tuning_lstm")
    for mode in (True, False):
        ours.train(mode)
        modes = {module.training for module in ours.prompt_encoder.modules() if isinstance(module, torch.nn.LSTM)}
        assert modes == {True}
