"""A run that was killed goes on from its checkpoint and ends with the bytes of one that was not."""

import hashlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from softprompt.config.stage import run_stage
from softprompt.provenance.origin import origin_of_a_run
from softprompt.training import saving, training
from softprompt.training.resume import FOLDER, key_of_the_run
from tests.clones import OURS, wait
from tests.toy import ROOT, write_params

# Several epochs of a few steps, the last step of each with fewer micro-batches; every third step is measured.
CHANGES = {
    "train.max_steps": 13,
    "train.batch_size": 3,
    "train.gradient_accumulation_steps": 2,
    "train.eval_steps": 3,
    "runtime.save_steps": 2,
}
METHODS = {
    "prompt_tuning": {},
    "adafactor": {"train.optim": "adafactor"},
    "p_tuning": {"train.method": "p_tuning"},
    "p_tuning with lstm": {"train.method": "p_tuning", "train.encoder": "lstm"},
    "prefix_tuning": {
        "train.method": "prefix_tuning",
        "train.init": "text",
        "train.early_stopping_patience": 2,
        "train.learning_rate": 3.0,
    },
    "prefix of demonstrations": {
        "train.method": "prefix_tuning",
        "train.init": "demonstrations",
        "train.num_virtual_tokens": 160,
    },
    "residual": {"train.residual": True, "train.freeze_first": True},
    "lora": {"train.method": "lora"},
}


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The finished toy without what train makes, made the current folder."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    clean(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path


def clean(folder: Path) -> None:
    """What DVC does before it runs the stage."""
    shutil.rmtree(folder / "models/adapter", ignore_errors=True)
    shutil.rmtree(folder / "results/train", ignore_errors=True)


def outputs(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that train writes."""
    files = [path for part in ("models/adapter", "results/train") for path in (folder / part).rglob("*")]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()
    }


def train() -> None:
    from stages.train import main

    run_stage(main)


class KilledError(Exception):
    """Stands for a kill; nothing in the code under test catches it."""


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run train, and stop it at a step as a kill would: in the middle of it, or right after it was saved."""
    learn, save = training.learn, saving.save

    def run(step: int, event: str = "step") -> None:
        begun = itertools.count(1 + newest_step())

        def learn_doomed(*args):
            if event == "step" and next(begun) == step:
                raise KilledError
            return learn(*args)

        def save_doomed(folder, trained, progress):
            save(folder, trained, progress)
            if event == "save" and progress.step == step:
                raise KilledError

        with monkeypatch.context() as patch:
            patch.setattr(training, "learn", learn_doomed)
            patch.setattr(saving, "save", save_doomed)
            with pytest.raises(KilledError):
                train()

    return run


def newest_step() -> int:
    found = [int(path.name.rsplit("-", 1)[1]) for path in Path(FOLDER).glob("*/checkpoint-*")]
    return max(found, default=0)


@pytest.mark.parametrize("method", METHODS)
def test_killed_at_any_step_it_ends_with_the_same_bytes(project, killed_at, method, capfd) -> None:
    write_params(project, **CHANGES, **METHODS[method])
    train()
    whole = outputs(project)
    assert "models/adapter/adapter_model.safetensors" in whole
    assert not (project / FOLDER).exists(), "a complete run leaves no checkpoint"
    last = sum(1 for _ in (project / "results/train/plots/metrics/train/loss.tsv").open()) - 1
    assert last == 13 or "patience" in str(METHODS[method])
    for step in range(1, last, 1 if method == "prompt_tuning" else 3):
        clean(project)
        killed_at(step)
        capfd.readouterr()
        train()
        assert outputs(project) == whole, f"killed at step {step}"
        saved = (step - 1) // 2 * 2
        assert (f"checkpoint-{saved}\n" in capfd.readouterr().out) == (saved > 0)


def test_killed_twice_and_right_behind_a_checkpoint(project, killed_at) -> None:
    write_params(project, **CHANGES)
    train()
    whole = outputs(project)
    clean(project)
    killed_at(4, "save")
    clean(project)
    killed_at(9)
    clean(project)
    train()
    assert outputs(project) == whole


def test_after_ctrl_c_nothing_is_lost(project, monkeypatch, capfd) -> None:
    """Between two checkpoints, at one, and behind the last step."""
    write_params(project, **{**CHANGES, "runtime.save_steps": 4})
    train()
    whole = outputs(project)
    clean(project)
    learn, begun = training.learn, itertools.count(1)
    steps = {6, 8, 13}

    def interrupted(*args):
        if next(begun) in steps:
            os.kill(os.getpid(), signal.SIGINT)
        return learn(*args)

    monkeypatch.setattr(training, "learn", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in the background
    try:
        for step in (6, 8):
            with pytest.raises(SystemExit, match=f"the next run goes on from step {step}; run the same command again"):
                train()
            clean(project)
        capfd.readouterr()
        train()
    finally:
        signal.signal(signal.SIGINT, before)
    assert "checkpoint-8\n" in capfd.readouterr().out
    assert outputs(project) == whole


def test_a_half_written_checkpoint_is_not_used(project, killed_at, monkeypatch, capfd) -> None:
    write_params(project, **CHANGES)
    train()
    whole = outputs(project)
    clean(project)
    rename = Path.rename

    def die(self, target):
        if self.name == "checkpoint-4":
            (self / "optimizer.pt").write_bytes(b"")
            raise KilledError
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", die)
        with pytest.raises(KilledError):
            train()
    capfd.readouterr()
    train()
    assert "checkpoint-2\n" in capfd.readouterr().out
    assert outputs(project) == whole


@pytest.mark.parametrize(
    "change",
    [
        {"train.learning_rate": 0.02},
        {"seed": 3},
        {"threads": 2},
        {"model.dtype": "bfloat16"},
        {"train.max_steps": 12},
        {"train.method": "p_tuning"},
    ],
)
def test_a_checkpoint_of_other_params_is_not_used_and_says_so(project, killed_at, change, capfd) -> None:
    write_params(project, **CHANGES)
    killed_at(9)
    write_params(project, **change)
    capfd.readouterr()
    train()
    printed = capfd.readouterr().out
    assert "goes on from" not in printed
    assert ".resume holds checkpoints of 1 other run(s), of other params, data, code or model; they are not used" in (
        printed
    )
    write_params(project, **{"train.learning_rate": None, "seed": 20170428, "threads": 1, "model.dtype": None})
    write_params(project, **{"train.method": "prompt_tuning"}, **CHANGES)
    train()
    assert "goes on from .resume" in capfd.readouterr().out, "the other run's checkpoint is still there"


def test_save_every_changes_no_byte_and_no_key(project) -> None:
    write_params(project, **CHANGES)
    key = key_of_the_run(origin_of_a_run())
    train()
    whole = outputs(project)
    write_params(project, **{"runtime.save_steps": 5})
    assert key_of_the_run(origin_of_a_run()) == key
    clean(project)
    train()
    assert outputs(project) == whole


@pytest.mark.parametrize("file", ["models/base/SHA256SUMS", "data/tokenized/SHA256SUMS"])
def test_other_inputs_have_another_key(project, file) -> None:
    before = key_of_the_run(origin_of_a_run())
    (project / file).write_text("other bytes\n", encoding="utf-8")
    assert key_of_the_run(origin_of_a_run()) != before


def test_other_code_and_other_libraries_have_another_key(project, monkeypatch, tmp_path) -> None:
    before = key_of_the_run(origin_of_a_run())
    for folder in ("softprompt", "stages"):
        shutil.copytree(ROOT / folder, tmp_path / "code" / folder)
    code = tmp_path / "code/softprompt"
    with monkeypatch.context() as patch:
        patch.setattr("softprompt.__path__", [str(code)])
        assert key_of_the_run(origin_of_a_run()) == before, "wherever the code lies"
        with (code / "training/order.py").open("a") as file:
            file.write("# changed\n")
        assert key_of_the_run(origin_of_a_run()) != before
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0.1")
    assert key_of_the_run(origin_of_a_run()) != before


def test_sigkill_of_the_process(project) -> None:
    """The real signal, at a moment that nobody chose."""
    write_params(project, **{**CHANGES, "train.max_steps": 60, "runtime.save_steps": 1})
    train()
    whole = outputs(project)
    clean(project)
    curve = project / "results/train/plots/metrics/train/loss.tsv"
    command = [sys.executable, "-m", "stages.train"]
    environment = {**os.environ, "PYTHONPATH": OURS}
    stage = subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.DEVNULL)

    def begun() -> bool:
        found = curve.exists() and len(curve.read_text().splitlines()) >= 15
        assert found or stage.poll() is None
        return found

    wait(begun, every=0.005)
    psutil.Process(stage.pid).kill()
    stage.wait(timeout=10)
    assert not (project / "models/adapter").exists()
    clean(project)
    output = subprocess.check_output(command, cwd=project, env=environment, text=True)
    assert "goes on from .resume" in output
    assert outputs(project) == whole
