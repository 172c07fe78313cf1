"""A model whose activations pass float16's largest number: told before a step, with the parameter that helps."""

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.conftest import Refusal, Run
from tests.toy import STAGES, write_params

REMEDY = "is nan; allowed: bfloat16 or float32 as model.dtype (float16 overflows above 65,504), else "


@pytest.fixture(autouse=True)
def large_activations(project: Path) -> None:
    file = project / "toy/model/model.safetensors"
    larger = {"gate_proj": 1e3, "up_proj": 1e3, "down_proj": 5e5}  # the weights themselves fit into float16
    tensors = load_file(file)
    for name, weight in tensors.items():
        tensors[name] = weight * next((factor for layer, factor in larger.items() if layer in name), 1.0)
        assert tensors[name].abs().max() < 60_000
    save_file(tensors, file, {"format": "pt"})


@pytest.mark.parametrize("dtype", ["float16", "auto"])
def test_no_step_is_made_and_no_row_scored(refusal: Refusal, run: Run, project: Path, dtype: str) -> None:
    if dtype == "auto":  # as it is stored, which is what null means on a GPU
        file = project / "toy/model/model.safetensors"
        save_file({name: weight.half() for name, weight in load_file(file).items()}, file, {"format": "pt"})
        config = project / "toy/model/config.json"
        config.write_text(config.read_text(encoding="utf-8").replace('"float32"', '"float16"'), encoding="utf-8")
    run(*STAGES[: STAGES.index("train")])
    message = refusal("train", **{"model.dtype": dtype})
    assert message.startswith(f"error: train: the validation loss of step 0 {REMEDY}another model")
    write_params(project, **{"model.dtype": "bfloat16"})
    run("train")
    message = refusal("evaluate", **{"model.dtype": dtype})
    assert message.startswith(f"error: evaluate: the loss of the validation rows (hard) {REMEDY}")
    write_params(project, **{"model.dtype": "bfloat16"})
    run("evaluate")
