"""Memory that loading the frozen model takes, against its weights: `python -m benchmarks.loading`.

Needs what `make repro` makes (models/base/). Each precision is measured in a process of its own, up to and with a first
forward, which touches all weights: a mapped file counts when it is read.
"""

import subprocess
import sys

from benchmarks.memory import peak, resident, restart_peak
from stages.params import load_params
from stages.workspace.paths import BASE_MODEL

DTYPES = ("float32", "bfloat16")


def measure(dtype: str) -> str:
    """A line of the table for `dtype`."""
    import torch

    from stages.tuning.base import load_base_model

    params = load_params()
    params = params.model_copy(update={"model": params.model.model_copy(update={"dtype": dtype}), "device": "cpu"})
    with torch.inference_mode():
        warm = torch.nn.Linear(2, 2)(torch.ones(1, 2))  # what torch sets up is no part of the model
    from transformers import AutoModelForCausalLM  # noqa: F401 (imported before the measurement starts)

    before = resident()
    restart_peak()
    model = load_base_model(BASE_MODEL, params)
    with torch.inference_mode():
        model(input_ids=torch.zeros(1, 8, dtype=torch.long) + int(warm.isnan().any()))
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    most = peak() - before
    return f"| {dtype} | {weights / 2**20:,.0f} | {most / 2**20:,.0f} | {most / weights:.2f}x |"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(measure(sys.argv[1]))
    else:
        print("| precision | weights, MiB | peak, MiB | ratio |\n|---|--:|--:|--:|", flush=True)
        for name in DTYPES:
            subprocess.run([sys.executable, "-m", "benchmarks.loading", name], check=True)
