"""LoRA through the packed forward: losses, gradients and answers are PEFT's."""

import copy
import warnings
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModelForCausalLM

from softprompt.engine.model import SharedPrefixModel
from tests.engine.architectures import make_base
from tests.engine.batches import BATCHES, Row, alone, answer_alone, assert_equal_gradients, padded

Pair = tuple[SharedPrefixModel, PeftModelForCausalLM]


def with_lora(cls: type[PeftModelForCausalLM], base: torch.nn.Module) -> PeftModelForCausalLM:
    """Not at its beginning, where half of the gradients are zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LoraConfig(task_type="CAUSAL_LM", r=3, lora_alpha=6, target_modules="all-linear")
        model = cls(base, config).double().eval()
        for name, weight in model.named_parameters():
            if ".lora_B." in name:
                torch.nn.init.normal_(weight, std=0.1)
    return model


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma3", "gpt_neo"])
def pair(request: pytest.FixtureRequest) -> Pair:
    base = make_base(request.param)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that GPT-2's layers are transposed, and GPT-Neo's can't be packed
        peft = with_lora(PeftModelForCausalLM, copy.deepcopy(base))
        ours = with_lora(SharedPrefixModel, base)
    assert ours.packs_rows == (request.param != "gpt_neo")
    return ours, peft


def trained(model: PeftModelForCausalLM) -> list[torch.nn.Parameter]:
    return [weight for weight in model.parameters() if weight.requires_grad]


@pytest.mark.parametrize("name", ["common preamble", "very unequal lengths", "labels at once"])
def test_loss_and_gradient_are_those_of_rows_alone(pair: Pair, name: str) -> None:
    ours, peft = pair
    rows: list[Row] = BATCHES[name]
    right, loss = torch.cat(alone(peft, rows)).mean(), ours(**padded(rows)).loss
    assert loss.item() == pytest.approx(right.item(), rel=1e-6)
    theirs = torch.autograd.grad(right, trained(peft))
    assert_equal_gradients(list(torch.autograd.grad(loss, trained(ours))), list(theirs))


def test_answers_are_those_of_rows_alone(pair: Pair) -> None:
    ours, peft = pair
    ids = padded(BATCHES["common preamble"])
    found = ours.generate(ids["input_ids"], attention_mask=ids["attention_mask"], max_new_tokens=4, do_sample=False)
    for row, (given, _) in zip(found[:, -4:].tolist(), BATCHES["common preamble"], strict=True):
        assert row == answer_alone(peft, given, 4)


def test_disabled_it_is_the_base_model_and_saved_it_is_pefts(pair: Pair, tmp_path: Path) -> None:
    ours, peft = pair
    rows = BATCHES["common preamble"]
    with ours.disable_adapter(), peft.disable_adapter():
        base = ours(**padded(rows)).loss.item()
        assert base == pytest.approx(torch.cat(alone(peft, rows)).mean().item(), rel=1e-6)
    tuned = ours(**padded(rows)).loss.item()
    assert tuned != pytest.approx(base, rel=1e-3)
    ours.save_pretrained(str(tmp_path), save_embedding_layers=False)
    fresh = make_base(ours.frozen.config.model_type.removesuffix("_text"))
    loaded = PeftModelForCausalLM.from_pretrained(fresh, str(tmp_path)).eval()
    assert torch.cat(alone(loaded, rows)).mean().item() == pytest.approx(tuned, rel=1e-6)
    again = SharedPrefixModel.from_pretrained(
        make_base(ours.frozen.config.model_type.removesuffix("_text")), str(tmp_path)
    )
    assert again(**padded(rows)).loss.item() == pytest.approx(tuned, rel=1e-6)
    assert not trained(again)
