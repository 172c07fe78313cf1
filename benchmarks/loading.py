"""Memory that loading the frozen model takes, against its weights: `python -m benchmarks.loading`.

Needs what `make repro` makes (models/base/). Each precision is measured in a process of its own, up to and with a first
forward, which touches all weights: a mapped file counts when it is read. Its pages are the kernel's to take back when
memory is short; what is not mapped from a file, it can't.
"""

import json
import subprocess
import sys
import threading

from benchmarks.memory import peak, resident, restart_peak, unmapped
from softprompt.runtime.libraries import quiet_libraries
from softprompt.runtime.markdown import table
from softprompt.runtime.paths import BASE_MODEL

DTYPES = ("float32", "bfloat16")


def measure(dtype: str) -> list[str]:
    """The figures of the table for `dtype`."""
    import torch

    from benchmarks.models import benchmark_params
    from softprompt.training.base import load_base_model

    params = benchmark_params(dtype)
    with torch.inference_mode():
        warm = torch.nn.Linear(2, 2)(torch.ones(1, 2))  # what torch sets up is no part of the model
    before = resident()
    restart_peak()
    with Growth() as growth:
        model = load_base_model(BASE_MODEL, params)
        with torch.inference_mode():
            model(input_ids=torch.zeros(1, 8, dtype=torch.long) + int(warm.isnan().any()))
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    cells = [[f"{most / 2**20:,.0f}", f"{most / weights:.2f}x"] for most in (peak() - before, growth.most)]
    return [f"{weights / 2**20:,.0f}", *cells[0], *cells[1]]


class Growth:
    """Within the block: the most that `unmapped` memory grew by, in bytes, looked at every few milliseconds."""

    def __enter__(self) -> "Growth":
        """Begin."""
        self.before, self.most, self.done = unmapped(), 0, threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self.done.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.done.wait(0.003):
            self.most = max(self.most, unmapped() - self.before)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        quiet_libraries()
        print(json.dumps(measure(sys.argv[1])))
    else:
        lines = [["precision", "weights, MiB", "peak, MiB", "ratio", "not of a file, MiB", "ratio"]]
        for name in DTYPES:
            measured = subprocess.check_output([sys.executable, "-m", "benchmarks.loading", name], text=True)
            lines.append([name, *json.loads(measured)])
        print(table(lines, texts=1))
