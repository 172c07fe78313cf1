"""Default learning rates: prompt tuning's go with the size of the prompt as it begins."""

import math
from pathlib import Path

import pytest

from softprompt.training.methods import METHODS, learning_rate, prompt_size
from tests.gemma import save_gemma
from tests.training.prompts import fresh, params_of, prompt


@pytest.mark.parametrize("optim", ["adamw_torch", "adafactor"])
@pytest.mark.parametrize("init", ["text", "random"])
def test_prompt_tuning_goes_with_the_prompts_size(toy_model: Path, tmp_path: Path, init: str, optim: str) -> None:
    params = params_of(tmp_path, **{"train.optim": optim, "train.init": init})
    model = fresh(toy_model, params)
    size, relative = prompt_size(model), METHODS["prompt_tuning"].learning_rates[optim]
    assert size == pytest.approx(1.0 if init == "random" else 0.02, rel=0.3)
    rate = learning_rate(params.train, model)
    assert rate == pytest.approx(relative * size, rel=0.05)
    prompt(model).mul_(16)
    assert learning_rate(params.train, model) == pytest.approx(16 * rate, rel=0.1)
    prompt(model).mul_(1 + 1e-6)
    larger = learning_rate(params.train, model)
    assert larger == float(f"{larger:.1e}"), "no machine's last digits"


def test_what_the_embedding_layer_puts_out_counts(toy_model: Path, tmp_path: Path) -> None:
    """Gemma's multiplies its table by the square root of the hidden size."""
    model = fresh(save_gemma(tmp_path / "gemma", toy_model, "gemma3"), params_of(tmp_path))
    table = model.frozen.get_input_embeddings().weight.square().mean(dim=1).sqrt().median()
    assert prompt_size(model) == pytest.approx(8 * table.item(), rel=0.3)


def test_an_odd_virtual_token_has_no_say(toy_model: Path, tmp_path: Path) -> None:
    model = fresh(toy_model, params_of(tmp_path))
    before = prompt_size(model)
    prompt(model)[0] = 1e4
    assert prompt_size(model) == pytest.approx(before, rel=0.3)


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_a_prompt_without_a_size(toy_model: Path, tmp_path: Path, value: float) -> None:
    """Its loss says what is wrong with it, or it trains as one of size 1."""
    params = params_of(tmp_path)
    model = fresh(toy_model, params)
    prompt(model).fill_(value)
    assert learning_rate(params.train, model) == METHODS["prompt_tuning"].learning_rates["adamw_torch"]


def test_the_card_has_the_rate(finished: Path, tmp_path: Path) -> None:
    params = params_of(tmp_path)
    model = fresh(finished / "models/base", params)
    card = (finished / "models/adapter/README.md").read_text(encoding="utf-8")
    assert f"a peak learning rate of {learning_rate(params.train, model):g}," in card


@pytest.mark.parametrize(
    ("changes", "rate"),
    [
        ({"train.learning_rate": 0.0123}, 0.0123),
        ({"train.method": "prefix_tuning"}, 0.02),
        ({"train.method": "lora"}, 0.003),
        ({"train.residual": True}, 0.003),
        ({"train.method": "lora", "train.learning_rate": 1e-05}, 1e-05),
    ],
)
def test_what_is_named_and_other_methods_do_not(
    toy_model: Path, tmp_path: Path, changes: dict[str, object], rate: float
) -> None:
    params = params_of(tmp_path, **changes)
    demonstrations = range(9) if params.train.method == "prefix_tuning" else ()
    assert learning_rate(params.train, fresh(toy_model, params, demonstrations)) == rate
