"""Training: frozen means frozen, averages by token, the best prompt kept, the same numbers again."""

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from dvclive import Live
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from softprompt.config import Params, load_params
from softprompt.engine.model import SharedPrefixModel
from softprompt.engine.row_losses import row_losses
from softprompt.runtime.errors import InputError
from softprompt.training.base import check_context, load_base_model, naming_parameter
from softprompt.training.initialise import new_soft_prompt
from softprompt.training.saving import Progress
from softprompt.training.training import tune
from tests.toy import TOY, write_params


def params_of(folder: Path, **changes: Any) -> Params:
    write_params(folder, **{**TOY, **changes})
    return load_params(folder / "params.yaml")


@dataclass(frozen=True)
class Run:
    """A training run that has ended."""

    model: SharedPrefixModel
    rows: dict[str, Dataset]
    before: dict[str, torch.Tensor]
    progress: Progress

    def curve(self, name: str) -> list[float]:
        return [entry[name] for entry in self.progress.history if name in entry]


def trained(finished: Path, folder: Path, validation: Dataset | None = None, **changes: Any) -> Run:
    """Tune on the toy's tokens; `validation` replaces its validation rows."""
    params = params_of(folder, **changes)
    base = finished / "models/base"
    model = new_soft_prompt(
        load_base_model(base, params), AutoTokenizer.from_pretrained(base), base, params.train, params.seed
    )
    rows = {
        split: Dataset.from_file(str(finished / f"data/tokenized/{split}.arrow")).select_columns(
            ["input_ids", "labels"]
        )
        for split in ("train", "validation")
    }
    rows["validation"] = validation or rows["validation"]
    before = copy.deepcopy(model.state_dict())
    (folder / "checkpoints").mkdir(exist_ok=True)
    with Live(str(folder / "live"), save_dvc_exp=False, dvcyaml=None) as live:
        return Run(model, rows, before, tune(model, rows, params, folder / "checkpoints", live))


def prompt(model: PeftModel) -> torch.Tensor:
    return model.prompt_encoder["default"].embedding.weight.detach()


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
    with pytest.raises(InputError, match=r"the loss of step 2 is nan; lower train.learning_rate"):
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
        "train.lr_scheduler_type": "cosine",
        "train.warmup_ratio": 0.2,
    }
    run = trained(finished, tmp_path, **changes)
    rows = len(run.rows["train"])
    assert rows % 8, "the last batch of an epoch is a short one"
    assert run.progress.step == 2 * -(-rows // 8)
    rates = run.curve("learning_rate")
    assert max(rates) == pytest.approx(0.01)
    assert rates[0] == 0.0
    assert rates[-1] < 0.002


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
    run = trained(finished, tmp_path, **{"train.optim": "adafactor", "train.lr_scheduler_type": "constant"})
    assert run.curve("learning_rate")[-1] == pytest.approx(0.3)
    assert not torch.equal(prompt(run.model), run.before["prompt_encoder.default.embedding.weight"])


class TestInitialisation:
    def make(self, finished: Path, folder: Path, **changes: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The prompt's weights and the embedding table."""
        params = params_of(folder, **changes)
        base = finished / "models/base"
        model, tokenizer = load_base_model(base, params), AutoTokenizer.from_pretrained(base)
        weight = prompt(new_soft_prompt(model, tokenizer, base, params.train, params.seed))
        assert weight.dtype == torch.float32
        return weight, model.get_input_embeddings().weight

    def test_random(self, finished: Path, tmp_path: Path) -> None:
        weight, _ = self.make(finished, tmp_path, **{"train.init": "random", "train.num_virtual_tokens": 200})
        assert weight.mean().item() == pytest.approx(0, abs=0.05)
        assert weight.std().item() == pytest.approx(1, abs=0.05)

    def test_vocabulary(self, finished: Path, tmp_path: Path) -> None:
        weight, table = self.make(finished, tmp_path, **{"train.init": "vocabulary", "train.num_virtual_tokens": 60})
        tokens = [torch.nonzero((table == row).all(1)).item() for row in weight]
        assert len(set(tokens)) == 60, "without replacement"
        assert not set(tokens) & {0, 1, 2}, "no special token"

    def test_text_is_repeated(self, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        changes = {"train.init": "text", "train.init_text": "fog", "train.num_virtual_tokens": 7}
        weight, table = self.make(finished, tmp_path, **changes)
        ids = AutoTokenizer.from_pretrained(finished / "models/base")("fog")["input_ids"]
        assert torch.equal(weight, table[(ids * 7)[:7]].detach())
        assert "repeated to fill 7 virtual tokens" in capsys.readouterr().out

    def test_text_is_cut_with_a_warning(
        self, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        text = "Where does fog come from, and where does it go?"
        changes = {"train.init": "text", "train.init_text": text, "train.num_virtual_tokens": 3}
        weight, table = self.make(finished, tmp_path, **changes)
        ids = AutoTokenizer.from_pretrained(finished / "models/base")(text)["input_ids"]
        assert torch.equal(weight, table[ids[:3]].detach())
        assert (
            f"warning: train.init_text has {len(ids)} tokens, train.num_virtual_tokens is 3" in capsys.readouterr().err
        )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_missing_device_is_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="device: torch finds no CUDA device here; allowed: cpu, or auto"):
        load_base_model(finished / "models/base", params_of(tmp_path, device="cuda"))


def test_out_of_memory_names_the_parameter() -> None:
    """torch's own allocator, asked for more than any machine has."""
    message = r"^out of memory; allowed: a smaller batch \(.*can't allocate memory"
    with pytest.raises(InputError, match=message), naming_parameter("a smaller batch"):
        torch.empty(2**54)
    with pytest.raises(RuntimeError, match="size"), naming_parameter("a smaller batch"):
        torch.ones(2) + torch.ones(3)


def test_a_device_map_of_one_device_changes_nothing(finished: Path, tmp_path: Path) -> None:
    model = load_base_model(finished / "models/base", params_of(tmp_path, **{"model.device_map": "auto"}))
    assert {weight.device.type for weight in model.parameters()} == {"cuda" if torch.cuda.is_available() else "cpu"}


def test_dtype_and_threads(finished: Path, tmp_path: Path) -> None:
    model = load_base_model(finished / "models/base", params_of(tmp_path, **{"model.dtype": "bfloat16", "threads": 2}))
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert torch.get_num_threads() == 2
    assert (
        load_base_model(finished / "models/base", params_of(tmp_path, **{"model.dtype": "auto"})).dtype == torch.float32
    )
    assert torch.get_num_threads() == 1


@pytest.fixture
def stored_in_bfloat16(toy_model: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "bfloat16"
    AutoModelForCausalLM.from_pretrained(toy_model, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


def test_without_a_dtype_a_cpu_computes_in_float32(stored_in_bfloat16: Path, tmp_path: Path) -> None:
    wanted = {None: torch.float32, "auto": torch.bfloat16, "float16": torch.float16}
    found = {
        dtype: load_base_model(stored_in_bfloat16, params_of(tmp_path, device="cpu", **{"model.dtype": dtype})).dtype
        for dtype in wanted
    }
    assert found == wanted


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("changes", [{"device": "cuda"}, {"device": "auto"}, {"model.device_map": "auto"}])
def test_without_a_dtype_a_gpu_computes_as_stored(stored_in_bfloat16: Path, tmp_path: Path, changes: Any) -> None:
    params = params_of(tmp_path, **{"model.dtype": None, **changes})
    assert load_base_model(stored_in_bfloat16, params).dtype == torch.bfloat16


def test_a_bfloat16_model_has_a_float32_prompt(finished: Path, tmp_path: Path) -> None:
    run = trained(finished, tmp_path, **{"model.dtype": "bfloat16"})
    assert prompt(run.model).dtype == torch.float32
    assert {weight.dtype for weight in run.model.get_base_model().parameters()} == {torch.bfloat16}
    assert not torch.equal(prompt(run.model), run.before["prompt_encoder.default.embedding.weight"])


def test_rows_beyond_the_context_are_refused(finished: Path, tmp_path: Path) -> None:
    model = load_base_model(finished / "models/base", params_of(tmp_path))
    check_context(model, 12, 500, "a prompt")
    with pytest.raises(InputError, match="the model's context is 512 tokens"):
        check_context(model, 13, 500, "a prompt")
