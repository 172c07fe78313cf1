"""One measurement in this process: `python -m benchmarks.measure '{"kind": "train", …}' figures.json`.

`benchmarks.runner` starts it; the figures go to a file, since libraries print what they like.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

from softprompt.runtime.guard import die_with_parent, exit_on_input_error
from softprompt.runtime.libraries import quiet_libraries


def gemm(*, model: str, shapes: dict[str, int]) -> dict[str, Any]:
    """See `benchmarks.work.gemm_limit`."""
    from benchmarks.models import soft_prompt_model
    from benchmarks.work import gemm_limit

    return gemm_limit(soft_prompt_model("peft", model, virtual_tokens=1), shapes)


def write_qwen(*, folder: str) -> dict[str, Any]:
    """See `benchmarks.models.write_qwen`."""
    from benchmarks import models

    models.write_qwen(Path(folder))
    return {}


def measure(*, kind: str, seed: int, **arguments: Any) -> dict[str, Any]:
    """The figures of a measurement; `seed` is the number of the round."""
    if kind == "train":
        from benchmarks.training import train

        return train(seed=seed, **arguments)
    if kind in ("evaluate", "generate"):
        from benchmarks import inference

        return getattr(inference, kind)(seed=seed, **arguments)
    if kind == "tokenize":
        from benchmarks.tokenizing import tokenize

        return tokenize(**arguments)
    return gemm(**arguments) if kind == "gemm" else write_qwen(**arguments)


if __name__ == "__main__":
    with exit_on_input_error():
        die_with_parent()
        quiet_libraries()
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", message="Position ids are not supported")  # PEFT, of its own `generate`
        figures = measure(**json.loads(sys.argv[1]))
        Path(sys.argv[2]).write_text(json.dumps(figures), encoding="utf-8")
