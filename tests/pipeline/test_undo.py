"""A `dvc exp run` that fails, and `make undo`: the state before comes back, and nothing else changes."""

import shutil
import signal
from pathlib import Path

import pytest

from tests.clones import call
from tests.pipeline.test_kills import start_training
from tests.toy import write_params

ADVICE = "the state before the experiment comes back with: make undo"
# train refuses a prompt beyond the context; two stages have run by then
TOO_MANY = "dvc exp run -S prepare.test=0.3 -S train.num_virtual_tokens=5000 -S evaluate.rows=1000"


def edit(clone: Path) -> dict[Path, bytes]:
    """What a user may have that is not committed: edits, one of the key that an experiment will change too."""
    write_params(clone, **{"runtime.save_steps": 11, "evaluate.rows": 6})
    with (clone / "README.md").open("a", encoding="utf-8") as file:
        file.write("mine\n")
    (clone / "notes.txt").write_text("mine", encoding="utf-8")
    rows = clone / "data/local/rows.json"
    text = rows.read_text(encoding="utf-8")
    rows.unlink()  # it is a link into DVC's cache
    rows.write_text(text.replace("apple", "apricot"), encoding="utf-8")
    return contents(clone, "params.yaml", "README.md", "notes.txt", "data/local/rows.json")


def contents(clone: Path, *names: str) -> dict[Path, bytes]:
    return {clone / name: (clone / name).read_bytes() for name in names}


def committed(clone: Path) -> dict[Path, bytes]:
    """The files in git that a stage or DVC writes."""
    names = call(clone, "git ls-files dvc.lock 'results/*.json'").split()
    return contents(clone, *names)


def unchanged(files: dict[Path, bytes]) -> bool:
    return all(path.read_bytes() == content for path, content in files.items())


@pytest.mark.parametrize("command", ["dvc exp run -S evaluate.rows=0", TOO_MANY])
def test_undo_brings_back_what_was_there_and_leaves_all_else(clone: Path, command: str) -> None:
    """A value that the first stage refuses, and one that a later stage does."""
    edits, results = edit(clone), committed(clone)
    *_, advice, dvc = call(clone, command, ok=False).splitlines()
    assert advice == ADVICE
    assert dvc.startswith("ERROR: failed to reproduce")
    assert not unchanged(edits)
    output = call(clone, "make undo")
    assert f"params.yaml: evaluate.rows: {command.rpartition('=')[2]} -> 6" in output
    assert unchanged(edits | results)
    for stage in ("fetch_data", "prepare", "train", "evaluate", "report"):
        assert f"{stage}:\n\tchanged outs" not in call(clone, f"dvc status {stage}")
    assert call(clone, "make undo").splitlines()[-1] == "nothing to undo"
    assert unchanged(edits | results)


def test_undo_after_make_reference(clone: Path) -> None:
    *_, advice, dvc, make = call(clone, "make reference DEVICE=gpu", ok=False).splitlines()
    assert advice == ADVICE
    assert dvc.startswith("ERROR: failed to reproduce 'local_sources'")
    assert "*** [Makefile:" in make  # beneath another make, a line begins with "make[1]"
    assert not (clone / "data/sources/model.json").exists()
    assert 'params.yaml: device: "gpu" -> "cpu"' in call(clone, "make undo")
    assert call(clone, "git status --porcelain") == ""
    assert "up to date" in call(clone, "dvc status")


def test_undo_after_a_traceback(clone: Path) -> None:
    code = clone / "stages/prepare.py"
    text = code.read_text(encoding="utf-8")
    code.write_text(text.replace("def main(params: Params) -> None:", "def main(params: Params) -> None:\n    1 / 0"))
    *_, error, advice, _ = call(clone, "dvc exp run -S prepare.test=0.25", ok=False).splitlines()
    assert (error, advice) == ("ZeroDivisionError: division by zero", ADVICE)
    call(clone, "make undo")
    assert call(clone, "git diff --name-only").split() == ["stages/prepare.py"]
    assert (clone / "data/prepared/train.parquet").exists()


def test_undo_leaves_what_was_changed_after_the_failure(clone: Path) -> None:
    call(clone, TOO_MANY, ok=False)
    write_params(clone, **{"evaluate.rows": 999, "seed": 5})
    after = contents(clone, "params.yaml", "dvc.lock")
    output = call(clone, "make undo", ok=False)
    wanted = "prepare.test: 0.2, train.num_virtual_tokens: 4, evaluate.rows: 5"
    assert f"params.yaml was changed since, in the same lines: set {wanted} by hand" in output
    assert unchanged(after)
    write_params(clone, **{"prepare.test": 0.2, "train.num_virtual_tokens": 4, "evaluate.rows": 5})
    (clone / "results/prepare.json").write_text("{}", encoding="utf-8")
    assert "results/prepare.json: left as it is" in call(clone, "make undo")
    assert (clone / "results/prepare.json").read_text(encoding="utf-8") == "{}"
    assert "seed: 5 " in (clone / "params.yaml").read_text(encoding="utf-8")
    assert call(clone, "git diff --name-only").split() == ["params.yaml", "results/prepare.json"]


def test_undo_goes_back_through_failures_one_by_one(clone: Path) -> None:
    call(clone, "dvc exp run -S train.num_virtual_tokens=0", ok=False)
    call(clone, "dvc exp run -S seed=-1", ok=False)
    assert "an experiment before it had failed too" in call(clone, "make undo")
    assert "train.num_virtual_tokens: 0 -> 4" in call(clone, "make undo")
    assert call(clone, "git status --porcelain") == ""


@pytest.mark.parametrize(("how", "steps"), [(signal.SIGINT, 5010), (signal.SIGKILL, 5011)])
def test_undo_after_a_stage_was_interrupted_or_killed(clone: Path, how: signal.Signals, steps: int) -> None:
    """A killed stage says nothing, and leaves what it has written: that is put aside."""
    dvc, stage = start_training(clone, "dvc", "exp", "run", "-S", f"train.max_steps={steps}")
    assert f"PID {dvc.pid}: " in call(clone, "make undo", ok=False)
    stage.send_signal(how)
    dvc.wait(timeout=60)
    shutil.rmtree(clone / ".resume")
    call(clone, "make undo")
    assert call(clone, "git status --porcelain") == ""
    assert "up to date" in call(clone, "dvc status")


def test_there_is_nothing_to_undo_where_nothing_failed_here(clone: Path) -> None:
    """An experiment that succeeds is no failure, and one in a temporary workspace changes nothing here."""
    assert ADVICE not in call(clone, "dvc exp run --temp -S train.num_virtual_tokens=0", ok=False)
    call(clone, "dvc exp run -S evaluate.rows=4")
    assert call(clone, "make undo").splitlines()[-1] == "nothing to undo"
    call(clone, "dvc exp run -S train.num_virtual_tokens=0", ok=False)
    write_params(clone, **{"train.num_virtual_tokens": 4})
    call(clone, "make repro")
    assert call(clone, "make undo").splitlines()[-1] == "nothing to undo", "the user has gone on"
    assert "  rows: 4\n" in (clone / "params.yaml").read_text(encoding="utf-8")


def test_a_bad_value_by_hand_is_to_be_corrected_and_dvc_checkout_is_enough(clone: Path) -> None:
    write_params(clone, **{"train.num_virtual_tokens": 0})
    output = call(clone, "dvc repro", ok=False)
    assert "train.num_virtual_tokens: 0 is not allowed; allowed: at least 1" in output
    assert "the outputs that DVC has deleted come back with: dvc checkout" in output
    assert not (clone / "models/adapter").exists()
    call(clone, "dvc checkout")
    assert (clone / "models/adapter").exists()
    assert "train.num_virtual_tokens: 0" in call(clone, "python -m softprompt.config", ok=False)
    assert "dvc checkout" not in call(clone, "python -m softprompt.config", ok=False)
