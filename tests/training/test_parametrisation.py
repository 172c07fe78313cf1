"""What is trained in place of a prompt's numbers: it begins exactly there, and ends as plain numbers."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModelForCausalLM, PrefixTuningConfig, initialize_kv_prefix_from_text
from transformers import AutoModelForCausalLM, AutoTokenizer

from softprompt.engine.row_losses import row_losses
from softprompt.training.parametrisation import units
from tests.training.prompts import fresh, params_of, prompt, trained

PREFIX = {"train.method": "prefix_tuning", "train.init": "text"}


def test_units_are_the_size_of_each_layers_keys_and_values() -> None:
    """Two layers: sizes 8 and 0.5 of the first, 2 and 0 of the second; the first token is unlike the others."""
    sizes = torch.tensor([[8.0, 0.5], [2.0, 0.0]])
    signs = torch.where(torch.arange(6) % 2 == 0, 1.0, -1.0)
    prefix = (sizes.unsqueeze(2) * signs).reshape(1, -1).repeat(5, 1)
    prefix[0] *= 1000
    assert units(prefix, 2, keys=0.25).view(2, 2, 6)[..., 0].tolist() == [[2.0, 0.5], [0.5, 1.0]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_units_on_a_gpu_are_those_of_the_cpu() -> None:
    prefix = torch.randn(4, 12)
    strict = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.equal(units(prefix.cuda(), 3, keys=0.5).cpu(), units(prefix, 3, keys=0.5))
    finally:
        torch.use_deterministic_algorithms(strict)


@pytest.mark.parametrize("key", ["train.residual", "train.freeze_first"])
def test_it_begins_where_it_would_without(finished: Path, tmp_path: Path, key: str) -> None:
    base = finished / "models/base"
    with_it, without = (prompt(fresh(base, params_of(tmp_path, **{key: value}))) for value in (True, False))
    assert torch.equal(with_it, without)


def test_a_prefix_begins_as_the_keys_and_values_that_peft_makes_of_the_text(finished: Path, tmp_path: Path) -> None:
    base = finished / "models/base"
    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    peft = PeftModelForCausalLM(AutoModelForCausalLM.from_pretrained(base), config)
    encode = partial(AutoTokenizer.from_pretrained(base).__call__, add_special_tokens=False)
    initialize_kv_prefix_from_text(peft, encode, text="Answer in one short sentence.", use_chat_template=False)
    assert torch.allclose(prompt(fresh(base, params_of(tmp_path, **PREFIX))), prompt(peft), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("changes", [{}, {"train.residual": True}, PREFIX], ids=["plain", "residual", "prefix"])
def test_the_first_token_stays_as_it_began(finished: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    run = trained(finished, tmp_path, **changes, **{"train.freeze_first": True})
    before = prompt(fresh(finished / "models/base", params_of(tmp_path, **changes, **{"train.freeze_first": True})))
    assert run.progress.best_step > 0
    assert torch.equal(prompt(run.model)[0], before[0])
    assert not torch.isclose(prompt(run.model)[1:], before[1:]).all()


def test_keys_can_stay_as_they_began(finished: Path, tmp_path: Path) -> None:
    run = trained(finished, tmp_path, **PREFIX, **{"train.keys_lr_ratio": 0.0})
    before = prompt(fresh(finished / "models/base", params_of(tmp_path, **PREFIX)))
    layers = run.model.active_peft_config.num_layers
    keys, values = (prompt(run.model).view(4, layers, 2, -1)[:, :, part] for part in (0, 1))
    assert torch.equal(keys, before.view(4, layers, 2, -1)[:, :, 0])
    assert not torch.equal(values, before.view(4, layers, 2, -1)[:, :, 1])


@pytest.mark.parametrize(
    "changes", [{"train.residual": True}, PREFIX, {"train.method": "lora"}], ids=["residual", "prefix", "lora"]
)
def test_trained_it_is_what_peft_loads(finished: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    run = trained(finished, tmp_path, **changes)
    losses = run.curve("validation/loss")
    assert losses[-1] < losses[0]
    run.model.save_pretrained(str(tmp_path / "adapter"), save_embedding_layers=False)
    base = AutoModelForCausalLM.from_pretrained(finished / "models/base")
    loaded = PeftModelForCausalLM.from_pretrained(base, str(tmp_path / "adapter")).eval()
    row = run.rows["validation"][0]
    ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
    with torch.no_grad():
        theirs = loaded(input_ids=ids, attention_mask=torch.ones_like(ids), labels=labels).loss.item()
    ours, tokens = row_losses(run.model, [row], 1)
    assert ours[0] / tokens[0] == pytest.approx(theirs, rel=1e-5)
