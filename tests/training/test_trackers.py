"""`runtime.trackers`: what the real clients have recorded, read back with them, and what is refused or lost when."""

import contextlib
import itertools
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from softprompt.config import load_params
from softprompt.config.stage import run_stage
from softprompt.runtime.errors import InputError
from softprompt.training import training
from softprompt.training.trackers import FOLDER, MAKERS, PACKAGES, check_trackers, settings_of
from tests.clones import OURS, environment
from tests.test_environment import optional
from tests.toy import TOY, write_params
from tests.training.tracked import (
    NAME,
    Curve,
    mlflow_curves,
    of_mlflow,
    of_tensorboard,
    of_trackio,
    of_wandb,
    recorded,
    runs_of_mlflow,
)

SECRET = "hunter2"


def copied(finished: Path, folder: Path) -> Path:
    """The finished toy without what train makes."""
    shutil.copytree(finished, folder, dirs_exist_ok=True)
    shutil.rmtree(folder / "models/adapter")
    shutil.rmtree(folder / "results/train")
    return folder


def train(folder: Path, **variables: str) -> str:
    """Run the stage as DVC does; return all that it prints."""
    variables = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline", "HOME": str(folder), **variables}
    command = [sys.executable, "-m", "stages.train"]
    environ = {**environment(), "PYTHONPATH": OURS, **variables}
    result = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


@pytest.fixture(scope="module")
def tracked(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all trackers, of an experiment that DVC runs elsewhere than in the user's repository."""
    place = tmp_path_factory.mktemp("tracked")
    elsewhere, main = copied(finished, place / "elsewhere"), place / "main"
    main.mkdir()
    write_params(
        elsewhere, **{"runtime.trackers": [*MAKERS], "data.source": f"https://127.0.0.1/rows.json?token={SECRET}"}
    )
    remote = f"https://{SECRET}:x-oauth-basic@127.0.0.1/repository.git"  # as hubs take a token
    for command in (
        "init -q",
        f"remote add origin {remote}",
        "-c user.name=a -c user.email=b commit -qm c --allow-empty",
    ):
        subprocess.run(["git", *command.split()], cwd=elsewhere, check=True)
    printed = train(elsewhere, DVC_EXP_NAME=NAME, DVC_ROOT=str(main))
    assert SECRET not in printed
    assert not (elsewhere / FOLDER).exists()
    return main / FOLDER


@pytest.mark.parametrize("read", [of_tensorboard, of_wandb, of_mlflow, of_trackio])
def test_a_tracker_has_the_curves_of_dvclive(tracked: Path, read: Callable[[Path], dict[str, Curve]]) -> None:
    wanted = recorded(tracked.parent.parent / "elsewhere")
    assert list(wanted["train/loss"]) == [1, 2, 3, 4]
    assert list(wanted["validation/loss"]) == [0, 2, 4]
    found = read(tracked)
    assert found == {name: pytest.approx(curve, rel=1e-6) for name, curve in wanted.items()}


def test_no_byte_that_dvc_hashes_depends_on_them(tracked: Path, finished: Path) -> None:
    elsewhere = tracked.parent.parent / "elsewhere"
    for folder in ("models/adapter", "results/train"):
        names = {path.relative_to(finished) for path in (finished / folder).rglob("*") if path.is_file()}
        assert {path.relative_to(elsewhere) for path in (elsewhere / folder).rglob("*") if path.is_file()} == names
        assert [name for name in names if (finished / name).read_bytes() != (elsewhere / name).read_bytes()] == []


def test_they_have_the_params_and_no_secret(tracked: Path, tmp_path: Path) -> None:
    _, (run,) = runs_of_mlflow(f"sqlite:///{tracked}/mlflow.db")
    assert run.data.params["train.max_steps"] == str(TOY["train.max_steps"])
    assert run.data.params["model.source"] == TOY["model.source"]
    assert run.data.params["data.source"] == "https://127.0.0.1/rows.json?token=…"
    assert not [key for key in run.data.params if key.startswith(("runtime.", "evaluate.", "general."))]
    files = [path for path in tracked.rglob("*") if path.is_file()]
    assert {path.relative_to(tracked).parts[0] for path in files} == {"tensorboard", "wandb", "mlflow.db", "trackio"}
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    write_params(tmp_path, **{"data.sha256": {"https://127.0.0.1/rows.json?token=" + SECRET: "0" * 64}})
    assert SECRET not in str(settings_of(load_params(tmp_path / "params.yaml")))


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy ready to be trained in this process; what a tracker adds to the environment is gone after the test."""
    monkeypatch.chdir(copied(finished, tmp_path / "project"))
    for name in ("DVC_ROOT", "DVC_EXP_NAME", "WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    write_params(tmp_path / "project", **{"runtime.save_steps": 1})
    return tmp_path / "project"


@pytest.fixture
def store(project: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an own store of MLflow, which the environment names."""
    address = f"sqlite:///{project.parent}/own.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    write_params(project, **{"runtime.trackers": ["mlflow"]})
    return address


def train_here() -> None:
    from stages.train import main

    run_stage(main)


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """Train, with something done at the beginning of a step."""
    learn = training.learn

    def run(step: int, do: Callable[[], None]) -> None:
        begun = itertools.count(1)

        def learn_after(*args):
            if next(begun) == step:
                do()
            return learn(*args)

        with monkeypatch.context() as patch:
            patch.setattr(training, "learn", learn_after)
            train_here()

    return run


class KilledError(Exception):
    """Stands for a crash; nothing in the code under test catches it."""


def killed() -> None:
    raise KilledError


def test_a_resumed_run_has_all_steps_once_and_the_killed_one_is_shown_as_failed(project, store, at_step) -> None:
    with pytest.raises(KilledError):
        at_step(3, killed)
    train_here()
    client, runs = runs_of_mlflow(store)
    assert [run.info.status for run in runs] == ["FAILED", "FINISHED"]
    assert [list(mlflow_curves(client, run)["train/loss"]) for run in runs] == [[1, 2], [1, 2, 3, 4]]
    assert mlflow_curves(client, runs[1]) == {
        name: pytest.approx(curve, rel=1e-6) for name, curve in recorded(project).items()
    }


def test_one_that_fails_costs_no_training(project, store, finished, at_step, capfd) -> None:
    at_step(3, lambda: Path(store.removeprefix("sqlite:///")).write_bytes(b"no database"))
    error = capfd.readouterr().err
    assert error.count("train: mlflow records no more of this run: ") == 1
    assert "Traceback" not in error
    name = "models/adapter/adapter_model.safetensors"
    assert (project / name).read_bytes() == (finished / name).read_bytes()
    import mlflow

    with contextlib.suppress(mlflow.exceptions.MlflowException):  # or, as pytest exits, it would make another store
        mlflow.end_run()


def test_one_that_cannot_start_is_refused_and_costs_no_killed_run(project, at_step, capfd) -> None:
    """wandb without a login."""
    with pytest.raises(KilledError):
        at_step(3, killed)
    write_params(project, **{"runtime.trackers": ["tensorboard", "wandb"]})
    with pytest.raises(SystemExit) as refused:
        train_here()
    assert str(refused.value.code).startswith("error: runtime.trackers: wandb can't start: No API key configured")
    assert len(str(refused.value.code).splitlines()) == 1
    write_params(project, **{"runtime.trackers": []})
    capfd.readouterr()
    train_here()
    assert "checkpoint-2\n" in capfd.readouterr().out


def test_of_several_processes_the_first_one_tracks(project, tmp_path) -> None:
    write_params(project, **{"runtime.trackers": ["tensorboard"], "launcher": "torchrun --nproc-per-node 2"})
    train(project, TENSORBOARD_LOGGING_DIR=str(tmp_path / "mine/tensorboard"), DVC_EXP_NAME=NAME)
    found = of_tensorboard(tmp_path / "mine")
    assert found == {name: pytest.approx(curve, rel=1e-6) for name, curve in recorded(project).items()}


def test_a_package_that_is_missing_is_named_with_its_command(project, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "alembic", None)
    write_params(project, **{"runtime.trackers": ["wandb", "tensorboard", "mlflow"]})
    with pytest.raises(SystemExit) as refused:
        train_here()
    assert refused.value.code == (
        "error: runtime.trackers: wandb, mlflow: not installed; "
        f"pip install {' '.join([*PACKAGES['wandb'], *PACKAGES['mlflow']])}"
    )
    check_trackers(["tensorboard", "trackio"])


def test_the_commands_install_what_the_extra_has() -> None:
    wanted = {requirement.name: requirement for requirement in map(Requirement, optional("trackers"))}
    named = [package.split("==") for packages in PACKAGES.values() for package in packages]
    assert {name for name, _ in named} == wanted.keys()
    assert [name for name, version in named if not wanted[name].specifier.contains(version)] == []


def test_an_unknown_name_is_refused(tmp_path) -> None:
    write_params(tmp_path, **{"runtime.trackers": ["tensorbord"]})
    with pytest.raises(InputError) as refused:
        load_params(tmp_path / "params.yaml")
    assert str(refused.value).endswith(
        'runtime.trackers: "tensorbord" is not allowed; allowed: tensorboard, wandb, mlflow or trackio'
    )
