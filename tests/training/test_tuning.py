"""Training: frozen means frozen, averages by token, the best prompt kept, the same numbers again."""

import math
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM

from softprompt.engine.row_losses import row_losses
from softprompt.runtime.errors import InputError
from tests.training.prompts import prompt, trained


def test_only_the_prompt_changes(finished: Path, tmp_path: Path) -> None:
    run = trained(finished, tmp_path)
    before, after = run.before, run.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"prompt_encoder.default.embedding.weight"}
    stored = AutoModelForCausalLM.from_pretrained(finished / "models/base").state_dict()
    for name, weight in run.model.get_base_model().state_dict().items():
        assert torch.equal(weight, stored[name]), f"{name} is not the fetched one, bit for bit"


def test_the_split_of_a_step_into_micro_batches_changes_no_loss(finished: Path, tmp_path: Path) -> None:
    curves = []
    for size, accumulation in ((8, 1), (4, 2), (2, 4)):
        folder = tmp_path / str(size)
        folder.mkdir()
        changes = {"train.batch_size": size, "train.gradient_accumulation_steps": accumulation}
        run = trained(finished, folder, **changes)
        curves.append(run.curve("train/loss") + run.curve("validation/loss"))
    assert len(curves[0]) == 4 + 3
    assert curves[1] == pytest.approx(curves[0], rel=1e-5)
    assert curves[2] == pytest.approx(curves[0], rel=1e-5)


def test_two_runs_are_equal_and_another_seed_is_not(finished: Path, tmp_path: Path) -> None:
    prompts = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        torch.manual_seed(len(prompts))  # the global generator must not matter
        prompts.append(prompt(trained(finished, tmp_path / name, seed=seed).model))
    assert torch.equal(prompts[0], prompts[1])
    assert not torch.equal(prompts[0], prompts[2])


def log_probabilities(model: PeftModel, ids: torch.Tensor) -> torch.Tensor:
    """Of every token at every position of one row, its own position's prediction left out: (length - 1, vocabulary)."""
    with torch.no_grad():
        logits = model(input_ids=ids[None], attention_mask=torch.ones_like(ids)[None]).logits
    return logits[0, -len(ids) : -1].log_softmax(-1)


def test_the_best_prompt_is_kept_not_the_last(finished: Path, tmp_path: Path) -> None:
    """Validated on the very tokens that training makes less likely, so that the validation loss rises."""
    changes = {
        "train.learning_rate": 1.0,
        "train.max_steps": 12,
        "train.lr_scheduler_type": "constant",
        "train.warmup_ratio": 0.0,
    }
    first = trained(finished, tmp_path, **changes)
    ids = torch.tensor(first.rows["train"][0]["input_ids"])
    after = log_probabilities(first.model, ids)
    prompt(first.model).copy_(first.before["prompt_encoder.default.embedding.weight"])
    unlearned = (after - log_probabilities(first.model, ids)).argmin(-1).tolist()

    (tmp_path / "second").mkdir()
    opposite = Dataset.from_list([{"input_ids": ids.tolist(), "labels": [-100, *unlearned]}])
    run = trained(finished, tmp_path / "second", opposite, **changes)
    losses = run.curve("validation/loss")
    assert losses[-1] > min(losses)
    assert run.progress.best_loss == min(losses)
    of_rows, tokens = row_losses(run.model, opposite, 8)
    assert of_rows.sum() / tokens.sum() == pytest.approx(min(losses), rel=1e-6)


def test_an_untrained_prompt_that_is_best_is_kept(finished: Path, tmp_path: Path) -> None:
    run = trained(finished, tmp_path, **{"train.learning_rate": 1e-30})
    assert run.progress.best_loss == run.curve("validation/loss")[0]
    assert torch.equal(prompt(run.model), run.before["prompt_encoder.default.embedding.weight"])


def test_patience_stops_early(finished: Path, tmp_path: Path) -> None:
    """A learning rate too small to change a float32: no measurement is better than that of the untrained prompt."""
    changes = {"train.learning_rate": 1e-30, "train.max_steps": 100, "train.early_stopping_patience": 2}
    run = trained(finished, tmp_path, **changes)
    assert (run.progress.best_step, run.progress.step) == (0, 4)


def test_a_loss_that_is_no_number_stops_with_the_step(finished: Path, tmp_path: Path) -> None:
    """The prompt outgrows the largest number of float16, 65,504, in the first step."""
    changes = {"train.learning_rate": 1e6, "train.warmup_ratio": 0.0, "model.dtype": "float16"}
    with pytest.raises(
        InputError, match=r"of step 2 is nan; allowed: .* as model.dtype .* a lower train.learning_rate"
    ):
        trained(finished, tmp_path, **changes)


def test_validation_loss_is_weighted_by_token(finished: Path, tmp_path: Path) -> None:
    """The mean of batch means, which Trainer reports, moves with the batch size."""
    losses = []
    for size in (1, 3, 8):
        folder = tmp_path / str(size)
        folder.mkdir()
        run = trained(finished, folder, **{"train.batch_size": size, "train.max_steps": 1})
        losses.append(run.curve("validation/loss")[0])
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-6)


def test_epochs_and_schedule(finished: Path, tmp_path: Path) -> None:
    changes = {
        "train.num_train_epochs": 2.0,
        "train.max_steps": None,
        "train.learning_rate": 0.05,
        "train.lr_scheduler_type": "cosine",
        "train.warmup_ratio": 0.2,
    }
    run = trained(finished, tmp_path, **changes)
    rows = len(run.rows["train"])
    assert rows % 8, "the last batch of an epoch is a short one"
    assert run.progress.step == 2 * -(-rows // 8)
    rates = run.curve("learning_rate")
    assert max(rates) == pytest.approx(0.05)
    assert rates[0] == 0.0
    assert rates[-1] < 0.2 * max(rates)


def test_epochs_alone_are_enough_and_max_steps_wins(finished: Path, tmp_path: Path) -> None:
    """The default names epochs: the same steps, learning rates and prompt as so many `max_steps`."""
    for name in ("epochs", "steps"):
        (tmp_path / name).mkdir()
    by_epochs = trained(finished, tmp_path / "epochs", **{"train.num_train_epochs": 1.7, "train.max_steps": None})
    steps = by_epochs.progress.step
    assert steps == math.ceil(1.7 * math.ceil(len(by_epochs.rows["train"]) / 8))
    by_steps = trained(finished, tmp_path / "steps", **{"train.num_train_epochs": 9.0, "train.max_steps": steps})
    for name in ("train/loss", "validation/loss", "learning_rate"):
        assert by_steps.curve(name) == by_epochs.curve(name)
    assert torch.equal(prompt(by_steps.model), prompt(by_epochs.model))


def test_adafactor_follows_the_learning_rate(finished: Path, tmp_path: Path) -> None:
    changes = {"train.optim": "adafactor", "train.learning_rate": 0.05, "train.lr_scheduler_type": "constant"}
    run = trained(finished, tmp_path, **changes)
    assert run.curve("learning_rate")[-1] == pytest.approx(0.05)
    assert not torch.equal(prompt(run.model), run.before["prompt_encoder.default.embedding.weight"])


def test_a_bfloat16_model_has_a_float32_prompt(finished: Path, tmp_path: Path) -> None:
    run = trained(finished, tmp_path, **{"model.dtype": "bfloat16"})
    assert prompt(run.model).dtype == torch.float32
    assert {weight.dtype for weight in run.model.get_base_model().parameters()} == {torch.bfloat16}
    assert not torch.equal(prompt(run.model), run.before["prompt_encoder.default.embedding.weight"])
