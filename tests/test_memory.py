"""Where memory runs out in a stage, the message names the parameter that lowers what it takes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from softprompt.engine.model import SharedPrefixModel
from tests.conftest import Run

HALF = "half of train.batch_size with twice train.gradient_accumulation_steps (the same training)"


@pytest.mark.parametrize(
    ("stage", "work", "parameter"),
    [
        ("train", "token_losses", HALF),
        ("evaluate", "token_losses", "a smaller evaluate.batch_size"),
        ("evaluate", "generate", "a smaller evaluate.batch_size"),
    ],
)
def test_out_of_memory_names_the_parameter(
    finished_project: Path, run: Run, monkeypatch: pytest.MonkeyPatch, stage: str, work: str, parameter: str
) -> None:
    def more_than_any_machine_has(*_: Any, **__: Any) -> torch.Tensor:
        return torch.empty(2**54)

    monkeypatch.setattr(SharedPrefixModel, work, more_than_any_machine_has)
    with pytest.raises(SystemExit) as exit:
        run(stage)
    message = str(exit.value.code)
    assert message.startswith(f"error: out of memory; allowed: {parameter}")
    assert len(message.splitlines()) == 1
