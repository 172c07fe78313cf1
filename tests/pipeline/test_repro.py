"""`make repro` and `dvc repro` on the toy: what reruns, what is refused, what is repaired."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from softprompt.evaluation.names import NAMES
from tests.clones import call, stages_run
from tests.toy import STAGES, write_params


def test_make_repro_again_does_nothing_and_says_so(clone: Path) -> None:
    output = call(clone, "make repro")
    assert stages_run(output) == []
    assert "up to date" in output
    metrics = json.loads((clone / "results/metrics.json").read_text(encoding="utf-8"))
    for variant, name in NAMES.items():
        assert f"| {name:15} | {metrics[variant]['loss']:16.3f} |" in output
    assert "adapter models/adapter" in output


@pytest.mark.slow  # as tests/pipeline/test_same_bytes.py, but in place
def test_force_leaves_dvc_lock_unchanged(clone: Path) -> None:
    before = (clone / "dvc.lock").read_bytes()
    assert sorted(stages_run(call(clone, "dvc repro --force"))) == sorted(STAGES)
    assert (clone / "dvc.lock").read_bytes() == before
    assert call(clone, "git status --porcelain") == ""


def test_an_edited_local_file_reruns_its_stage(clone: Path) -> None:
    rows = clone / "data/local/rows.json"
    text = rows.read_text(encoding="utf-8")
    rows.write_text(text.replace("apple", "apricot"), encoding="utf-8")  # in place: it is a copy of the cache's
    assert "nothing is damaged" in call(clone, "make repair")
    output = call(clone, "dvc repro")
    assert sorted(stages_run(output)) == sorted(set(STAGES) - {"fetch_model", "fetch_general"})
    assert "%|" not in output, "a log has no progress bars, of any library"


def test_make_repro_refuses_a_bad_value_before_dvc_deletes_anything(clone: Path) -> None:
    write_params(clone, **{"train.batch_sise": 3})
    output = call(clone, "make repro", ok=False)
    assert "params.yaml: train.batch_sise: unknown key; did you mean train.batch_size?" in output
    assert "Traceback" not in output
    assert stages_run(output) == []
    assert (clone / "models/adapter/adapter_model.safetensors").exists()


def test_the_gate_reruns_nothing_and_lets_a_better_prompt_pass(clone: Path) -> None:
    metrics = json.loads((clone / "results/metrics.json").read_text(encoding="utf-8"))
    write_params(clone, **{"runtime.require": True})
    output = call(clone, "make repro", ok=metrics["verdict"] == "helps")
    assert stages_run(output) == []
    assert f"Verdict: {metrics['verdict']}. Against the {NAMES[metrics['strongest']]}" in output


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
    (clone / "models/base/mine.txt").write_text("mine", encoding="utf-8")
    output = call(clone, "make repair")
    (mine,) = clone.glob(".dvc/tmp/damaged-*/base/mine.txt")
    assert mine.read_text(encoding="utf-8") == "mine", "what somebody put into an output is put aside with it"
    assert "2 damaged" in output, "the object and the folder that came from it"
    assert stages_run(call(clone, "make repro"))[0] == "fetch_model"
    assert "nothing is damaged" in call(clone, "make repair")


@pytest.mark.parametrize("stage", ["fetch_data", "fetch_general", "prepare", "tokenize", "report"])
def test_a_stage_without_a_model_imports_no_torch(clone: Path, stage: str) -> None:
    """Nor do the processes that it starts, of which Python tells as well: transformers would, with its tokenizers."""
    write_params(clone, **{"tokenize.max_length": None})  # the model's: its configuration is read, too
    told = call(clone, f"python -X importtime -m stages.{stage}")
    imported = set(re.findall(r"\| +([\w.]+)$", told, re.M))
    assert "softprompt.config" in imported
    assert "transformers" in imported or stage != "tokenize", "by its worker"
    assert "torch" not in imported
