"""`softprompt compare`: folders, the workspace, experiments and commits on the same rows."""

import gc
import json
import shutil
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import PreTrainedModel

from softprompt.cli.verify import loss_differences
from softprompt.evaluation.names import NAMES
from softprompt.runtime.errors import InputError
from softprompt.training.base import load_base_model
from tests.cli.conftest import Command, copy_of, invoke, new_adapter, plain_peft
from tests.clones import call


@pytest.fixture(scope="session")
def experiment(trained_clone: Path) -> str:
    """An experiment with five virtual tokens; the workspace is as it was."""
    call(trained_clone, "dvc exp run --name five -S train.num_virtual_tokens=5 train")
    call(trained_clone, "git reset -q --hard && dvc checkout")
    return "five"


@torch.no_grad()
def plain_loss(adapter: Path) -> float:
    """Nats per label token of the test rows, by PEFT's forward, a row at a time."""
    model, _ = plain_peft(adapter)
    total, count = 0.0, 0
    for row in Dataset.from_file("data/tokenized/test.arrow"):
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])
        logits = model(input_ids=ids).logits[0, -ids.shape[1] :]
        total += float(torch.nn.functional.cross_entropy(logits[:-1], labels[1:], reduction="sum"))
        count += int((labels[1:] != -100).sum())
    return total / count


def test_an_experiment_a_commit_a_folder_and_the_workspace(
    answer: Command, repository: Path, experiment: str, tmp_path: Path
) -> None:
    other = new_adapter(tmp_path / "other", "prefix_tuning")
    result = json.loads(answer("compare", "workspace", experiment, "HEAD", other, "--json"))
    entries = {entry["name"]: entry for entry in result["compared"]}
    assert list(entries) == ["base model", "hard prompt", "few-shot prompt", "workspace", "five", "HEAD", str(other)]
    assert [entry["virtual_tokens"] for entry in entries.values()] == [None, None, None, 4, 5, 4, 4]
    measured = json.loads(Path("results/metrics.json").read_text(encoding="utf-8"))
    for variant, name in NAMES.items():
        entry = entries["workspace" if variant == "tuned" else name]
        assert entry["loss"] == pytest.approx(measured[variant]["loss"], rel=1e-6), "as evaluate has it"
    assert [entries[name]["method"] for name in ("five", str(other))] == ["prompt_tuning", "prefix_tuning"]
    for name, folder in (("workspace", Path("models/adapter")), (str(other), other)):
        assert entries[name]["loss"] == pytest.approx(plain_loss(folder), rel=1e-5)
    assert entries["workspace"]["minus_first"] is None
    assert entries["HEAD"]["minus_first"] == {"mean": 0, "low": 0, "high": 0}
    assert entries["base model"]["minus_base"] is None
    five = entries["five"]
    assert five["loss"] != entries["workspace"]["loss"]
    for gap, name in (("minus_first", "workspace"), ("minus_base", "base model")):
        assert five[gap]["mean"] == pytest.approx(five["loss"] - entries[name]["loss"])
        assert five[gap]["low"] <= five[gap]["mean"] <= five[gap]["high"]
    assert json.loads((repository / "models/adapter/adapter_config.json").read_text())["num_virtual_tokens"] == 4


def test_one_table_in_markdown(answer: Command, repository: Path) -> None:
    lines = answer("compare", "models/adapter").splitlines()
    rows = [line.split("|") for line in lines[2:]]
    assert lines[0].startswith("Held-out loss on ")
    assert lines[1] == ""
    assert len({len(line) for line in lines[2:]}) == 1, "aligned"
    assert {len(row) for row in rows} == {9}
    assert [row[1].strip() for row in rows[2:]] == ["base model", "hard prompt", "few-shot prompt", "models/adapter"]
    assert set(lines[3]) == {"|", "-", ":"}


@pytest.fixture
def metrics(repository: Path) -> Iterator[Path]:
    """results/metrics.json, which a test may change."""
    file = repository / "results/metrics.json"
    before = file.read_bytes()
    yield file
    file.write_bytes(before)


@pytest.mark.parametrize("command", [("compare", "workspace"), ("verify",), ("generate", "--hard", "Why?")])
def test_metrics_that_were_edited_by_hand_are_one_line(
    refusal: Command, metrics: Path, command: tuple[str, ...]
) -> None:
    values = json.loads(metrics.read_text(encoding="utf-8"))
    metrics.write_text(json.dumps(values | {"hard": 3}), encoding="utf-8")
    if command == ("verify",):  # it reads them only where bytes differ
        with pytest.raises(InputError, match=r"results/metrics\.json can't be read \(hard: "):
            loss_differences(Path(), Path())
    else:
        assert refusal(*command).startswith("error: results/metrics.json can't be read (hard: ")


def test_a_damaged_file_of_a_revision_is_named_as_git_does(
    refusal: Command, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules[loss_differences.__module__]  # `softprompt.cli.verify` is the command
    monkeypatch.setattr(module, "differences", lambda there, here: ([], ["models/adapter"]))
    monkeypatch.setattr(module, "METRICS", Path("README.md"))
    assert refusal("verify").startswith("error: HEAD:README.md can't be read (")


def notes(errors: str) -> list[str]:
    return [line for line in errors.splitlines() if line.startswith("note: ")]


def test_metrics_of_other_texts_and_rows_have_no_choice_and_no_examples(metrics: Path) -> None:
    values = json.loads(metrics.read_text(encoding="utf-8"))
    values["prompts"]["hard"]["tried"][0]["text"] = "Be an eel."
    values["prompts"]["few_shot"]["example_ids"][0] = "elsewhere"
    metrics.write_text(json.dumps(values), encoding="utf-8")
    result = invoke("compare", "workspace")
    assert "few-shot prompt" not in result.stdout
    texts, rows = notes(result.stderr)
    assert "other hard prompts than params.yaml: the hard prompt is the first text of evaluate.hard_prompt" in texts
    assert "other rows than data/prepared: there is no few-shot prompt; make it again with: dvc repro" in rows
    metrics.unlink()
    (line,) = notes(invoke("compare", "workspace").stderr)
    assert line.startswith("note: there is no results/metrics.json: the hard prompt is the first text")


def test_only_lora_has_a_base_model_of_its_own_one_at_a_time(
    answer: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    methods = ("lora", "prefix_tuning", "p_tuning")
    others = [new_adapter(tmp_path / method, method) for method in methods]
    loaded, held = list[weakref.ref](), list[int]()

    def load(*arguments: Any) -> PreTrainedModel:
        gc.collect()
        held.append(sum(model() is not None for model in loaded))
        model = load_base_model(*arguments)
        loaded.append(weakref.ref(model))
        return model

    monkeypatch.setattr("softprompt.evaluation.variants.load_base_model", load)
    result = json.loads(answer("compare", *others, "--json"))["compared"][-3:]
    assert held == [0, 0], "one for both soft prompts, then LoRA's"
    assert [(entry["name"], entry["method"]) for entry in result] == list(zip(map(str, others), methods, strict=True))
    for entry, folder in zip(result, others, strict=True):
        assert entry["loss"] == pytest.approx(plain_loss(folder), rel=1e-5)


def test_what_does_not_fit_is_refused_before_anything_is_scored(
    refusal: Command, metrics: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("softprompt.evaluation.variants.row_losses", None)
    long = new_adapter(tmp_path / "long", "prompt_tuning", num_virtual_tokens=500)
    assert f"{long}: a soft prompt of 500 tokens" in refusal("compare", "workspace", long)
    context = max(len(row["input_ids"]) for row in Dataset.from_file("data/tokenized/test.arrow")) + 4
    monkeypatch.setattr("softprompt.training.base.context_of", lambda config: context)
    values = json.loads(metrics.read_text(encoding="utf-8"))
    values["prompts"]["hard"]["place"] = "system turn"
    metrics.write_text(json.dumps(values), encoding="utf-8")
    assert "hard prompt: a row has " in refusal("compare", "workspace")


def test_what_is_no_adapter(refusal: Command, tmp_path: Path) -> None:
    assert "nothing-known is no folder, and no experiment" in refusal("compare", "nothing-known")
    assert f"{tmp_path} is no adapter" in refusal("compare", tmp_path)


def test_an_adapter_of_another_model_or_template(refusal: Command, repository: Path, tmp_path: Path) -> None:
    of_model = copy_of(repository / "models/adapter", tmp_path / "model", base_sha256="f" * 64)
    literal = {"template": "Q: {instruction} A: ", "chat_template": None}
    of_template = copy_of(repository / "models/adapter", tmp_path / "template", **literal)
    assert "tuned on another model" in refusal("compare", "workspace", of_model)
    assert "another template" in refusal("compare", "workspace", of_template)


def test_an_experiment_whose_adapter_is_in_no_cache(refusal: Command, repository: Path, experiment: str) -> None:
    cache, kept = repository / ".dvc/cache/files", repository / ".dvc/cache/kept"
    shutil.move(cache, kept)
    try:
        message = refusal("compare", experiment)
    finally:
        shutil.rmtree(cache, ignore_errors=True)
        shutil.move(kept, cache)
    assert "five: its models/adapter is not in DVC's cache" in message
    assert "dvc exp pull origin five" in message


def test_a_commit_whose_adapter_is_in_no_cache(refusal: Command, repository: Path) -> None:
    call(repository, "git tag -f untrained $(git rev-list --max-parents=0 HEAD)")
    lock = call(repository, "git show untrained:dvc.lock")
    assert "models/adapter" in lock, "the project's own: an adapter of another model, in no cache here"
    assert "untrained: its models/adapter is not in DVC's cache" in refusal("compare", "untrained")
