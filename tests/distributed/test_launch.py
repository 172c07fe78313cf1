"""Several processes of one stage, started by real launchers on the toy: the same training, and no mess at the end."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import psutil
import pytest
from safetensors.torch import load_file

from tests.clones import OURS, environment, wait
from tests.toy import write_params

TWO = "torchrun --nproc-per-node 2"
# Several epochs, in which the last step has fewer rows than the others: fewer than there are processes in some.
CHANGES = {"train.max_steps": 13, "train.batch_size": 3, "train.gradient_accumulation_steps": 3, "train.eval_steps": 3}
METHODS = {
    "prompt_tuning": ({}, "torchrun --nproc-per-node 3"),  # 28 rows in steps of 9: one is left for three
    "p_tuning": ({"train.method": "p_tuning"}, TWO),  # 9 rows for two
}


def start(folder: Path, *command: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        # What runs in the background inherits an ignored SIGINT.
        ["env", "--default-signal=INT", *command],
        cwd=folder,
        env={**environment(), "HF_HUB_OFFLINE": "1", "PYTHONPATH": OURS, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, stage: str, launch: str, status: int = 0, **variables: str) -> tuple[str, str]:
    """Run a stage under a launcher; return standard output and standard error."""
    write_params(folder, launcher=launch)
    process = start(folder, sys.executable, "-m", f"stages.{stage}", **variables)
    streams = process.communicate(timeout=120)
    assert process.returncode == status, "\n".join(streams)[-6000:]
    return streams


def curve(folder: Path, name: str) -> pd.Series:
    return pd.read_csv(folder / f"results/train/plots/metrics/{name}/loss.tsv", sep="\t", index_col="step")["loss"]


@pytest.mark.parametrize("method", METHODS)
def test_several_processes_train_as_one_does(project: Path, tmp_path: Path, method: str) -> None:
    changes, launch = METHODS[method]
    write_params(project, **{**CHANGES, **changes})
    run(project, "train", "python")
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("models/adapter", "results"):
        shutil.move(project / name, alone / name)
    output, _ = run(project, "train", launch)
    assert len(re.findall("validation loss .* at step", output)) == 1, "one process speaks"
    for name in ("train", "validation"):
        pd.testing.assert_series_equal(curve(project, name), curve(alone, name), atol=1e-5, rtol=0)
    chosen = [json.loads((f / "results/train/metrics.json").read_text())["step"] for f in (project, alone)]
    assert chosen[0] == chosen[1]
    ours, theirs = (load_file(f / "models/adapter/adapter_model.safetensors") for f in (project, alone))
    assert all((ours[name] - theirs[name]).abs().max() < 1e-5 for name in theirs)


def test_two_processes_score_and_answer_as_one_does(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    names = ("metrics.json", "predictions.parquet", "predictions.jsonl", "virtual_tokens.json")
    write_params(tmp_path, **{"evaluate.batch_size": 2, "evaluate.generate.do_sample": True})
    run(tmp_path, "evaluate", "python")
    before = {name: (tmp_path / "results" / name).read_bytes() for name in names}
    shutil.rmtree(tmp_path / "results")
    run(tmp_path, "evaluate", TWO)
    assert {name: (tmp_path / "results" / name).read_bytes() for name in names} == before


def stages_in(folder: Path) -> list[psutil.Process]:
    """Processes that run in `folder`, the launched ones last."""
    found = [process for process in psutil.process_iter(["cwd", "pid"]) if process.info["cwd"] == str(folder)]
    return sorted(found, key=lambda process: process.pid)


def wait_for_a_checkpoint(folder: Path) -> None:
    wait(lambda: list(folder.glob(".resume/*/checkpoint-*")), every=0.01)


def test_a_process_that_dies_ends_all_and_the_next_run_goes_on(project: Path) -> None:
    write_params(project, **{**CHANGES, "train.gradient_accumulation_steps": 2, "runtime.save_steps": 2})
    run(project, "train", TWO)
    whole = (project / "models/adapter/adapter_model.safetensors").read_bytes()
    shutil.rmtree(project / "models/adapter")
    shutil.rmtree(project / "results")
    stage = start(project, sys.executable, "-m", "stages.train")
    wait_for_a_checkpoint(project)
    killed = stages_in(project)[-1]
    killed.kill()
    _, message = stage.communicate(timeout=20)
    assert stage.returncode == 1
    named = re.search(rf"error: launcher: process ([\d, ]+) of '{TWO}' was killed", message)
    assert named
    assert str(killed.pid) in named[1].split(", ")  # perhaps with another that the launcher ended for it
    assert "Traceback" not in message
    assert stages_in(project) == []
    assert not (project / "models/adapter").exists()
    output, _ = run(project, "train", TWO)
    assert "goes on from .resume" in output
    assert (project / "models/adapter/adapter_model.safetensors").read_bytes() == whole


def test_ctrl_c_ends_the_step_of_all(project: Path) -> None:
    write_params(
        project, **{**CHANGES, "train.gradient_accumulation_steps": 2, "train.max_steps": 2000, "launcher": TWO}
    )
    stage = start(project, sys.executable, "-m", "stages.train")
    wait_for_a_checkpoint(project)
    stage.send_signal(signal.SIGINT)
    _, message = stage.communicate(timeout=30)
    assert stage.returncode == 1
    assert re.search(
        r"^interrupted: the next run goes on from step [1-9]\d*; run the same command again$", message, re.M
    )
    assert "Traceback" not in message
    assert stages_in(project) == []


def test_after_a_sigkill_of_the_stage_no_process_stays(project: Path) -> None:
    write_params(
        project, **{**CHANGES, "train.gradient_accumulation_steps": 2, "train.max_steps": 2000, "launcher": TWO}
    )
    stage = start(project, sys.executable, "-m", "stages.train")
    wait_for_a_checkpoint(project)
    stage.kill()
    stage.communicate(timeout=20)
    wait(lambda: not stages_in(project), seconds=10)


def test_two_hosts_meet(project: Path) -> None:
    """One launcher by the stage, the other one by hand, as on a second host that shares the folder."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    write_params(project, **{**CHANGES, "train.gradient_accumulation_steps": 2})
    address = f"--nnodes 2 --nproc-per-node 1 --master-addr 127.0.0.1 --master-port {port}"
    write_params(project, launcher=f"torchrun --node-rank 0 {address}")
    bin_folder = Path(sys.executable).parent
    other = start(
        project, str(bin_folder / "torchrun"), *f"--node-rank 1 {address} -m stages.train".split(), OMP_NUM_THREADS="1"
    )
    output, _ = run(project, "train", f"torchrun --node-rank 0 {address}")
    streams = other.communicate(timeout=30)
    assert other.returncode == 0, streams
    assert "validation loss" in output
    assert "validation loss" not in streams[0], "the second host is silent"
    assert (project / "models/adapter/adapter_model.safetensors").exists()


@pytest.mark.parametrize(
    ("launch", "changes", "variables", "message"),
    [
        (
            "no-such-launcher",
            {},
            {},
            "error: launcher: 'no-such-launcher' can't be run: No such file or directory; allowed",
        ),
        (
            "torchrun --no-such-option",
            {},
            {},
            "error: launcher: 'torchrun --no-such-option' ended with status 2, see above",
        ),
        (TWO, {"model.device_map": "auto"}, {}, "error: model.device_map: auto takes all devices for one process"),
        (
            TWO,
            {},
            {"ACCELERATE_USE_FSDP": "true"},
            "error: launcher: FSDP splits the model's weights over the processes",
        ),
    ],
)
def test_what_is_refused(project: Path, launch: str, changes: dict, variables: dict, message: str) -> None:
    write_params(project, **{"train.gradient_accumulation_steps": 1}, **changes)
    output, errors = run(project, "train", launch, status=1, **variables)
    assert errors.count(message) == 1
    assert "Traceback" not in errors
    assert "validation" not in output
    assert not (project / "models/adapter").exists()
    assert not (project / "results/train").exists()


def test_a_bad_param_is_said_once_before_anything_is_launched(project: Path) -> None:
    write_params(project, **{"train.batch_size": 0})
    _, errors = run(project, "train", TWO, status=1)
    assert errors.count("error: params.yaml: train.batch_size: 0 is not allowed") == 1


def test_accelerate_launches_too(project: Path) -> None:
    write_params(project, **{**CHANGES, "train.gradient_accumulation_steps": 2, "train.max_steps": 2})
    options = "--multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no"
    output, _ = run(project, "train", f"accelerate launch {options}", HF_HOME=os.environ["HF_HOME"])
    assert "validation loss" in output
