"""Default learning rates: prompt tuning's go with the size of the model's embeddings."""

from pathlib import Path

import pytest
import torch

from softprompt.training.base import load_base_model
from softprompt.training.methods import METHODS, embedding_size, learning_rate
from tests.gemma import save_gemma
from tests.training.prompts import params_of


@pytest.mark.parametrize("optim", ["adamw_torch", "adafactor"])
def test_prompt_tuning_goes_with_the_embeddings(toy_model: Path, tmp_path: Path, optim: str) -> None:
    params = params_of(tmp_path, **{"train.optim": optim})
    model = load_base_model(toy_model, params)
    embeddings = model.get_input_embeddings().weight
    relative = METHODS["prompt_tuning"].learning_rates[optim]
    rms = embeddings.square().mean(dim=1).sqrt().median()
    rate = learning_rate(params.train, model)
    assert rate == pytest.approx(relative * rms.item(), rel=0.05)
    embeddings.data.mul_(16)
    assert learning_rate(params.train, model) == pytest.approx(16 * rate, rel=0.1)
    embeddings.data.mul_(1 + 1e-6)
    assert len(f"{learning_rate(params.train, model):g}".strip("0.")) <= 2, "no machine's last digits"


def test_what_the_embedding_layer_puts_out_counts(toy_model: Path, tmp_path: Path) -> None:
    """Gemma's multiplies its table by the square root of the hidden size."""
    model = load_base_model(save_gemma(tmp_path / "gemma", toy_model, "gemma3"), params_of(tmp_path))
    table = model.get_input_embeddings().weight.square().mean(dim=1).sqrt().median()
    assert embedding_size(model) == pytest.approx(8 * table.item(), rel=0.02)


def test_a_rare_token_has_no_say(toy_model: Path, tmp_path: Path) -> None:
    model = load_base_model(toy_model, params_of(tmp_path))
    before = embedding_size(model)
    with torch.no_grad():
        model.get_input_embeddings().weight[:9] = 1e4
    assert embedding_size(model) == pytest.approx(before, rel=0.05)


@pytest.mark.parametrize(
    ("changes", "rate"),
    [
        ({"train.learning_rate": 0.0123}, 0.0123),
        ({"train.method": "prefix_tuning"}, 0.02),
        ({"train.method": "lora"}, 0.003),
        ({"train.method": "lora", "train.learning_rate": 1e-05}, 1e-05),
    ],
)
def test_what_is_named_and_other_methods_do_not(
    toy_model: Path, tmp_path: Path, changes: dict[str, object], rate: float
) -> None:
    params = params_of(tmp_path, **changes)
    assert learning_rate(params.train, load_base_model(toy_model, params)) == rate
