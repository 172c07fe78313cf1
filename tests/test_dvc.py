"""The toy through the real DVC and make, in a clone: reruns, experiments, kills, damage."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser

from tests.conftest import STAGES
from tests.toy import ROOT, TOY, write_general, write_params, write_rows

LOCAL = {
    "model.source": "models/local/toy",
    "data.source": "data/local/rows.json",
    "general.source": "data/local/general.txt",
}


def clone_of_the_working_tree(folder: Path) -> Path:
    """What a clone of a commit of the working tree would hold, with one commit."""
    names = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True).splitlines()
    for name in names:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / ".venv").mkdir()
    (folder / ".venv/installed").touch()  # the environment of the tests is on PATH
    call(folder, "git init -q -b main && git config user.name test && git config user.email test@localhost")
    call(folder, "git add -A && git commit -qm clone")
    return folder


def call(folder: Path, command: str, *, ok: bool = True) -> str:
    """Run a command of the README in `folder`, with this environment's tools; return all that it prints."""
    result = subprocess.run(["bash", "-c", command], cwd=folder, env=environment(), capture_output=True, text=True)
    text = result.stdout + result.stderr
    assert (result.returncode == 0) == ok, text
    return text


def environment() -> dict[str, str]:
    # A stage that ran in this process has set HF_HUB_OFFLINE for good.
    inherited = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    return {
        **inherited,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MAKEFLAGS": "--assume-old=.venv/installed",
    }


def stages_run(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def toy_clone(folder: Path, toy_model: Path, **changes: object) -> Path:
    """A clone in `folder` in which `make repro` has run on the toy, committed."""
    clone_of_the_working_tree(folder)
    shutil.copytree(toy_model, folder / "models/local/toy")
    write_rows(folder).rename(folder / "data/local/rows.json")
    write_general(folder).rename(folder / "data/local/general.txt")
    call(folder, "dvc add data/local/rows.json data/local/general.txt")
    write_params(folder, **{**TOY, **LOCAL, **changes})
    output = call(folder, "make repro")
    assert sorted(stages_run(output)) == sorted(STAGES)
    call(folder, "git add -A && git commit -qm toy")
    return folder


@pytest.fixture(scope="module")
def finished_clone(tmp_path_factory: pytest.TempPathFactory, toy_model: Path) -> Path:
    """A clone after `make repro`; to be changed through `clone`."""
    return toy_clone(tmp_path_factory.mktemp("dvc") / "clone", toy_model, **{"train.max_steps": 6})


@pytest.fixture
def clone(finished_clone: Path) -> Iterator[Path]:
    """The finished clone, brought back to its commit afterwards with the commands that messages name."""
    yield finished_clone
    call(finished_clone, "git checkout -q . && git clean -fdq && dvc checkout -q && dvc repro -q")


def test_make_repro_again_does_nothing_and_says_so(clone: Path) -> None:
    output = call(clone, "make repro")
    assert stages_run(output) == []
    assert "up to date" in output
    metrics = json.loads((clone / "results/metrics.json").read_text(encoding="utf-8"))
    for rival, name in (("bare", "bare model"), ("hard", "hard prompt"), ("tuned", "tuned prompt")):
        assert f"| {name:12} | {metrics[rival]['loss']:14.3f} |" in output
    assert "adapter models/adapter" in output


def test_force_leaves_dvc_lock_unchanged(clone: Path) -> None:
    before = (clone / "dvc.lock").read_bytes()
    assert sorted(stages_run(call(clone, "dvc repro --force"))) == sorted(STAGES)
    assert (clone / "dvc.lock").read_bytes() == before
    assert call(clone, "git status --porcelain") == ""


def test_the_first_experiment(clone: Path) -> None:
    output = call(clone, "dvc exp run -S train.num_virtual_tokens=5")
    assert stages_run(output) == ["train", "evaluate", "report"]
    config = json.loads((clone / "models/adapter/adapter_config.json").read_text(encoding="utf-8"))
    assert config["num_virtual_tokens"] == 5
    shown = json.loads(call(clone, "dvc exp show --json"))
    assert len(shown[1]["experiments"]) == 1, "the workspace, then the commit with its experiment"


def test_a_file_added_to_local_stays_through_checkouts_and_experiments(clone: Path) -> None:
    (clone / "data/local/more.jsonl").write_text('{"instruction": "a", "output": "b"}\n' * 3, encoding="utf-8")
    call(clone, "dvc add data/local/more.jsonl && dvc checkout")
    assert (clone / "data/local/more.jsonl").exists()
    call(clone, "dvc exp run -S train.max_steps=2")
    assert (clone / "data/local/more.jsonl").exists()
    call(clone, "rm data/local/more.jsonl && dvc checkout data/local/more.jsonl.dvc")
    assert (clone / "data/local/more.jsonl").exists()


def test_workers_rerun_nothing(clone: Path) -> None:
    write_params(clone, **{"tokenize.workers": 2})
    assert "up to date" in call(clone, "dvc status")


def test_an_edited_local_file_reruns_its_stage(clone: Path) -> None:
    rows = clone / "data/local/rows.json"
    text = rows.read_text(encoding="utf-8")
    rows.unlink()  # it is a link into DVC's cache
    rows.write_text(text.replace("apple", "apricot"), encoding="utf-8")
    assert sorted(stages_run(call(clone, "dvc repro"))) == sorted(STAGES[1:])


def test_make_repro_refuses_a_bad_value_before_dvc_deletes_anything(clone: Path) -> None:
    write_params(clone, **{"train.batch_sise": 3})
    output = call(clone, "make repro", ok=False)
    assert "params.yaml: train.batch_sise: unknown key; did you mean train.batch_size?" in output
    assert "Traceback" not in output
    assert stages_run(output) == []
    assert (clone / "models/adapter/adapter_model.safetensors").exists()


def test_a_bad_value_given_to_dvc_loses_no_work(clone: Path) -> None:
    output = call(clone, "dvc exp run -S train.num_virtual_tokens=0", ok=False)
    assert "error: params.yaml: train.num_virtual_tokens: 0 is not allowed; allowed: at least 1" in output
    assert "git checkout . && dvc checkout" in output
    assert "Traceback" not in output
    call(clone, "git checkout -q . && dvc checkout")
    assert "up to date" in call(clone, "dvc status fetch_model fetch_data fetch_general prepare tokenize train")
    # headline.json has the same length whatever it says, which git, within a second, takes for unchanged.
    assert set(stages_run(call(clone, "make repro"))) <= {"evaluate", "report"}


def test_the_gate_reruns_nothing_and_lets_a_better_prompt_pass(clone: Path) -> None:
    metrics = json.loads((clone / "results/metrics.json").read_text(encoding="utf-8"))
    write_params(clone, **{"evaluate.require": True})
    output = call(clone, "make repro", ok=metrics["verdict"] == "helps")
    assert stages_run(output) == []
    assert f"Verdict: {metrics['verdict']}. Against the hard prompt" in output


def test_another_rival_reruns_no_training(clone: Path) -> None:
    output = call(clone, "dvc exp run -S 'evaluate.hard_prompt=\"Be brief: a word.\"'")
    assert stages_run(output) == ["evaluate", "report"]


def test_dvc_shows_a_table_that_fits_a_terminal(clone: Path) -> None:
    widest = max(len(line) for line in call(clone, "dvc metrics show").splitlines())
    assert widest <= 150
    call(clone, "dvc exp run -S train.num_virtual_tokens=5")
    shown = call(clone, "COLUMNS=150 dvc exp show --only-changed --no-pager")
    assert "train.num_virtual_tokens" in shown, "nothing had to be left out"
    assert max(len(line) for line in shown.splitlines()) <= 150


def test_plots_are_drawn_offline(clone: Path, browser: Browser) -> None:
    call(clone, "dvc plots show")
    page, requests = browser.new_page(), list[str]()
    page.on("request", lambda request: requests.append(request.url))
    page.goto((clone / "dvc_plots/index.html").as_uri())
    page.wait_for_selector(".marks")
    assert page.locator(".vega-embed .marks").count() == 2
    assert len(requests) == 1, "the page itself"
    page.close()


def start_training(clone: Path, *command: str) -> tuple[subprocess.Popen, psutil.Process]:
    """A command that trains for long, once it has saved a checkpoint: DVC and the stage.

    DVC runs a stage in $SHELL, and in /bin/sh where it is not set, as in many a CI; that may be one that stays.
    """
    plain = {**environment(), "SHELL": "/bin/sh"}
    dvc = subprocess.Popen(command, cwd=clone, env=plain, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(clone.glob(".resume/*/checkpoint-*")):
        assert time.monotonic() < deadline
        assert dvc.poll() is None
        time.sleep(0.01)
    children = psutil.Process(dvc.pid).children(recursive=True)
    return dvc, next(child for child in children if "stages.train" in child.cmdline())


@pytest.mark.parametrize("victim", ["stage", "dvc"])
def test_after_sigkill_the_next_make_repro_goes_on(clone: Path, victim: str) -> None:
    steps = {"stage": 300, "dvc": 301}[victim]  # equal ones would come out of DVC's run cache
    write_params(clone, **{"train.max_steps": steps})
    dvc, stage = start_training(clone, "dvc", "repro")
    (stage if victim == "stage" else psutil.Process(dvc.pid)).kill()
    dvc.wait(timeout=60)
    stage.wait(timeout=10)  # no orphan goes on training
    assert not (clone / "models/adapter").exists()
    assert "goes on from" in call(clone, "make repro")
    assert not (clone / ".resume").exists()
    killed = (clone / "dvc.lock").read_bytes()
    call(clone, "dvc repro --force --single-item train")
    assert (clone / "dvc.lock").read_bytes() == killed, "as if nothing had been killed"
    left = [path.name for path in (clone / "models").iterdir()]
    assert sorted(left) == ["adapter", "base", "local"]


def test_a_killed_experiment_goes_on_though_its_workspace_is_gone(clone: Path) -> None:
    """Its checkpoints are in the main repository, where the next run of the same experiment finds them."""
    command = "dvc exp run --temp -S train.max_steps=302"
    dvc, stage = start_training(clone, *command.split())
    assert stage.cwd() != str(clone)
    psutil.Process(dvc.pid).kill()
    dvc.wait(timeout=60)
    stage.wait(timeout=10)
    call(clone, "rm -rf .dvc/tmp/exps/standalone/*")
    output = call(clone, command)
    assert "goes on from" in output
    assert f"{clone}/.resume" in output
    assert not (clone / ".resume").exists(), "a complete run leaves no checkpoint"


def test_a_damaged_object_in_the_cache_is_noticed_and_repaired(clone: Path) -> None:
    """Written in place, past the read-only bit, as through a hard link in a workspace; checkout restores the damage."""
    digest = hashlib.md5((clone / "models/base/model.safetensors").read_bytes()).hexdigest()
    weights = clone / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    weights.chmod(0o644)
    with weights.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x42")
    weights.chmod(0o444)
    shutil.rmtree(clone / "models/base")
    call(clone, "dvc checkout")  # DVC trusts its cache
    write_params(clone, **{"train.num_virtual_tokens": 6})
    output = call(clone, "dvc repro", ok=False)
    assert "models/base/model.safetensors is damaged" in output
    assert "make repair" in output
    output = call(clone, "make repair")
    assert "2 damaged" in output, "the object and the folder that was linked to it"
    assert stages_run(call(clone, "make repro"))[0] == "fetch_model"
    assert "nothing is damaged" in call(clone, "make repair")
