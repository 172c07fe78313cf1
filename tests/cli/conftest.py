"""The toy in a real DVC repository with a trained adapter, and the command line in it."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.clones import made_once, toy_clone
from tests.hub import Hub
from tests.toy import make_model

Command = Callable[..., str]
NUMBER = count()


@pytest.fixture(scope="session")
def trained_clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which the toy's prompt is trained and committed; to be left as it is.

    Its model has larger weights: transformers' usual ones only repeat the last token, whatever comes before.
    """

    def make(folder: Path) -> None:
        toy_clone(folder, make_model(tmp_path_factory.mktemp("cli") / "model", initializer_range=0.5))

    # A copy for this process alone: tests of the command line add to it.
    made = made_once(tmp_path_factory, "trained", make)
    return shutil.copytree(made, tmp_path_factory.mktemp("cli") / "clone", symlinks=True)


@pytest.fixture
def repository(trained_clone: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The clone, made the current folder."""
    monkeypatch.chdir(trained_clone)
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "1")
    return trained_clone


@pytest.fixture
def adapter(repository: Path) -> Iterator[Path]:
    """models/adapter as a copy that a test may change."""
    folder, kept = repository / "models/adapter", repository / "models/kept"
    folder.rename(kept)
    shutil.copytree(kept, folder)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
    kept.rename(folder)


@pytest.fixture
def name(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """OWNER/NAME of a repository that is not there yet, which the token may make."""
    from tests.cli.publishing import TOKEN

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # as HF_HUB_DISABLE_XET=1 at the start
    hub.writers["writer"] = TOKEN
    hub.messages.clear()
    yield f"writer/adapter-{next(NUMBER)}"
    hub.writers.clear()


@pytest.fixture
def answer(repository: Path) -> Command:
    """Run a command that must succeed, in this process; return its standard output."""

    def answer(*arguments: object, stdin: str | None = None) -> str:
        result = invoke(*arguments, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result.stdout

    return answer


@pytest.fixture
def refusal(repository: Path) -> Command:
    """Run a command that must refuse; return its message, having checked its form."""

    def refusal(*arguments: object, stdin: str | None = None) -> str:
        result = invoke(*arguments, stdin=stdin)
        assert result.exit_code == 1, result.output
        assert all(line.startswith("error: ") for line in result.output.splitlines()), result.output
        return result.output

    return refusal


def invoke(*arguments: object, stdin: str | None = None):
    from softprompt.cli import app

    here = Path.cwd()
    try:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)
    finally:
        os.chdir(here)


def change_origin(adapter: Path, **changes: object) -> Path:
    """Rewrite origin.json of an adapter, and its manifest."""
    from softprompt.runtime.outputs import output_folder

    values = json.loads((adapter / "origin.json").read_text(encoding="utf-8"))
    changed = adapter.with_name(f"{adapter.name}-changed")
    with output_folder(changed) as folder:
        shutil.copytree(adapter, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("SHA256SUMS"))
        (folder / "origin.json").unlink()  # it may be a link into DVC's cache
        (folder / "origin.json").write_text(json.dumps(values | changes), encoding="utf-8")
    shutil.rmtree(adapter)
    return changed.rename(adapter)


def copy_of(adapter: Path, folder: Path, **changes: object) -> Path:
    """A copy of an adapter, with changes in its origin.json."""
    shutil.copytree(adapter, folder)
    return change_origin(folder, **changes) if changes else folder


def new_adapter(folder: Path, method: str, **settings: object) -> Path:
    """An untrained adapter of `method` on the repository's base model, as train writes it."""
    from transformers import AutoTokenizer

    from softprompt.config import load_params
    from softprompt.provenance.origin import origin_of_a_run, write_origin
    from softprompt.runtime.outputs import output_folder
    from softprompt.runtime.paths import BASE_MODEL
    from softprompt.training.base import load_base_model
    from softprompt.training.initialise import new_soft_prompt

    params = load_params()
    train = params.train.model_copy(update={"method": method, "init": "random", **settings})
    tokenizer = AutoTokenizer.from_pretrained(BASE_MODEL)
    model = new_soft_prompt(load_base_model(BASE_MODEL, params), tokenizer, BASE_MODEL, train, seed=7)
    with output_folder(folder) as partial:
        model.save_pretrained(str(partial))
        write_origin(partial, origin_of_a_run())
    return folder


def plain_peft(adapter: Path):
    """The adapter in PEFT's own class, on transformers' own model, and the tokenizer."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = Path("models/base")
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(adapter)).eval()
    return model, AutoTokenizer.from_pretrained(base)
