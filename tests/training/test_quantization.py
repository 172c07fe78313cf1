"""`model.quantization`: the frozen model in 4 bits, tuned and used as any other, and what is refused."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from bitsandbytes.nn import Linear4bit
from packaging.requirements import Requirement
from peft import PeftModel, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from softprompt.engine.model import SharedPrefixModel
from softprompt.runtime.errors import InputError
from softprompt.training.base import load_base_model
from softprompt.training.quantization import INSTALL
from tests.conftest import Run
from tests.engine.batches import BATCHES, alone, assert_equal_gradients, gradients, rows_of
from tests.engine.test_gated import blocks, is_slim
from tests.gguf_file import write_gguf
from tests.test_environment import optional
from tests.toy import ROOT, make_model, write_params
from tests.training.prompts import params_of, trained

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]
METHODS = {"prompt tuning": PromptTuningConfig, "prefix tuning": PrefixTuningConfig}


@pytest.fixture(scope="module")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each row of its weights has whole blocks of 64 values, which share a scale."""
    return make_model(tmp_path_factory.mktemp("wide") / "model", hidden_size=64, intermediate_size=128)


def load(model: Path, folder: Path, **changes: Any) -> PreTrainedModel:
    return load_base_model(model, params_of(folder, **{"model.quantization": "4bit", **changes}))


def by_rows(model: SharedPrefixModel, name: str) -> torch.Tensor:
    """Losses of a batch, row after row."""
    losses, row = model.token_losses(rows_of(name))
    return losses[row.argsort(stable=True)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("method", METHODS)
def test_losses_and_gradients_are_those_of_peft(wide_model: Path, tmp_path: Path, method: str, device: str) -> None:
    config = METHODS[method](task_type="CAUSAL_LM", num_virtual_tokens=4)
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype="float32")
    plain = AutoModelForCausalLM.from_pretrained(
        wide_model, quantization_config=nf4, dtype=torch.float32, device_map={"": device}
    )
    theirs = get_peft_model(plain, config).train()
    changes = {"device": device, "model.dtype": "float32"}
    ours = SharedPrefixModel(load(wide_model, tmp_path, **changes), config)
    ours.prompt_encoder.load_state_dict(theirs.prompt_encoder.state_dict())
    assert ours.packs_rows
    assert ours.shares_prefix
    name = "common preamble"
    with torch.no_grad():  # as the validation loss is measured before the first step
        ours.token_losses(rows_of(name))
    with torch.device(device):
        losses, right = by_rows(ours, name), torch.cat(alone(theirs, BATCHES[name]))
    torch.testing.assert_close(losses.double(), right, atol=1e-5, rtol=0)
    assert_equal_gradients(gradients(ours, losses.sum()), gradients(theirs, right.sum()), relative=1e-4)
    whole = SharedPrefixModel(load(wide_model, tmp_path, **changes, **{"model.quantization": None}), config)
    whole.prompt_encoder.load_state_dict(theirs.prompt_encoder.state_dict())
    assert (by_rows(whole, name) - losses).abs().max() > 1e-4, "4 bits are not the weights themselves"


@pytest.mark.parametrize(("dtype", "computed"), [(None, "float32"), ("bfloat16", "bfloat16"), ("auto", "bfloat16")])
def test_layers_compute_in_the_dtype(wide_model: Path, tmp_path: Path, dtype: str | None, computed: str) -> None:
    stored = tmp_path / "stored"
    AutoModelForCausalLM.from_pretrained(wide_model, dtype=torch.bfloat16).save_pretrained(stored)
    model = load(stored, tmp_path, **{"model.dtype": dtype})
    wanted = getattr(torch, computed)
    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    assert len(layers) == 2 * 7
    assert {layer.compute_dtype for layer in layers} == {model.dtype} == {wanted}
    assert {layer.weight.dtype for layer in layers} == {torch.uint8}
    assert model.lm_head.weight.dtype == wanted
    assert all(is_slim(block) for block in blocks(model))


def test_only_the_prompt_is_trained(finished: Path, tmp_path: Path) -> None:
    run = trained(finished, tmp_path, **{"model.quantization": "4bit", "train.max_steps": 3, "train.eval_steps": 1})
    after = run.model.state_dict()
    assert sum(name.endswith("_proj.weight") and value.dtype == torch.uint8 for name, value in after.items()) == 2 * 7
    changed = {name for name, value in after.items() if not torch.equal(value, run.before[name])}
    assert changed
    assert all(name.startswith("prompt_encoder.") for name in changed)
    losses = run.curve("validation/loss")
    assert losses[-1] < losses[0]


def test_the_pipeline_trains_and_answers_with_it(finished_project: Path, run: Run) -> None:
    write_params(finished_project, **{"model.quantization": "4bit"})
    before = json.loads(Path("results/metrics.json").read_text(encoding="utf-8"))
    run("train", "evaluate", "report")
    after = json.loads(Path("results/metrics.json").read_text(encoding="utf-8"))
    assert after["rows"] == before["rows"]
    assert after["base"]["loss"] != before["base"]["loss"]
    assert after["base"]["loss"] == pytest.approx(before["base"]["loss"], abs=0.05)
    assert "4bit" in Path("results/report.html").read_text(encoding="utf-8")
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("models/base"), "models/adapter")


def test_a_gguf_source_is_quantized_anew(project: Path, run: Run, toy_model: Path) -> None:
    write_gguf(toy_model, project / "toy/model.gguf")
    write_params(project, **{"model.source": "toy/model.gguf", "model.quantization": "4bit"})
    run("local_sources", "fetch_model")
    model = load(Path("models/base"), project)
    assert any(isinstance(module, Linear4bit) for module in model.modules())


def test_without_the_extra_the_command_is_named(
    wide_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(InputError, match=f"model.quantization: 4bit needs one more package: {INSTALL}"):
        load(wide_model, tmp_path)
    (extra,) = map(Requirement, optional("quantization"))
    assert INSTALL.partition("==")[0] == f"pip install {extra.name}"
    assert extra.specifier.contains(INSTALL.partition("==")[2])


def test_with_the_extra_a_program_says_no_more() -> None:
    """Some CPUs have bitsandbytes look for a kernel on a hub, and warn, as soon as PEFT is imported."""
    code = "from softprompt.runtime.guard import set_environment; set_environment(); import peft, bitsandbytes"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (out.stdout, out.stderr) == ("", "")


def test_weights_that_are_quantized_already_are_refused(wide_model: Path, tmp_path: Path) -> None:
    load(wide_model, tmp_path).save_pretrained(tmp_path / "stored")
    with pytest.raises(InputError, match=r"the weights are stored quantized \(bitsandbytes\); allowed: null"):
        load(tmp_path / "stored", tmp_path)


def test_a_device_map_never_leaves_them_to_the_disk(
    wide_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    little = SimpleNamespace(available=60_000, total=60_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    with pytest.raises(InputError, match="even in 4 bits the model doesn't fit on the GPUs"):
        load(wide_model, tmp_path, **{"model.device_map": "auto"})
