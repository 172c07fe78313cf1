"""What a training step costs on paper, and what was measured: `python -m benchmarks.cost`.

Prints the tables of docs/scaling.md, which says why they are what they are. Counted are floating-point operations of
matrix products, and bytes, as functions of virtual tokens, preamble, rows, labels and vocabulary.
"""

import json
from dataclasses import dataclass

from softprompt.runtime.markdown import table
from softprompt.runtime.paths import RESULTS

H100_FLOPS, H100_MEMORY, H100_WIRE = 989e12, 80e9, 900e9  # bf16 dense; bytes; bytes/s of NVLink. NVIDIA's data sheet
LATENCY = 20e-6  # seconds of an all-reduce of next to nothing; an assumption
SHARE = 0.4  # of the peak that well-fed training reaches in matrix products; an assumption


@dataclass(frozen=True)
class Architecture:
    """Sizes as the model's config.json has them."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate: int
    vocabulary: int
    tied: bool  # one matrix for input and output embeddings

    @property
    def linear(self) -> int:
        """Weights of the decoder's linear layers."""
        attention = self.hidden * self.head_size * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def weights(self) -> int:
        """All of them, but for norms and biases."""
        return self.linear + self.hidden * self.vocabulary * (1 if self.tied else 2)

    @property
    def kept(self) -> int:
        """Numbers that a token leaves for backward: inputs of norms, queries, keys, values, attention, both gates.

        The inputs of linear layers are not among them, since no weight has a gradient.
        """
        keys = self.kv_heads * self.head_size
        return self.layers * (4 * self.hidden + 2 * keys + 2 * self.intermediate)


SMOLLM = Architecture("SmolLM2-135M", 30, 576, 9, 3, 64, 1536, 49152, tied=True)
QWEN = Architecture("Qwen2.5-0.5B", 24, 896, 14, 2, 64, 4864, 151936, tied=True)
QWEN_7B = Architecture("Qwen2.5-7B", 28, 3584, 28, 4, 128, 18944, 152064, tied=False)
LLAMA_70B = Architecture("Llama-3.1-70B", 80, 8192, 64, 8, 128, 28672, 128256, tied=False)


@dataclass(frozen=True)
class Step:
    """A batch: `prefix` virtual tokens and preamble, `tokens` of all rows after it, `labels` of all rows."""

    rows: int
    prefix: int
    tokens: int
    labels: int

    @property
    def positions(self) -> int:
        """What PEFT runs, without padding: prompt and whole row, for every row."""
        return self.rows * (self.prefix + 1) + self.tokens


def ours(model: Architecture, step: Step) -> float:
    """FLOPs of a step behind a shared prefix."""
    products = 4 * model.linear * (step.prefix + step.tokens)
    each = step.tokens / step.rows
    pairs = step.prefix**2 / 2 + step.rows * (each * step.prefix + each**2 / 2)
    attention = 12 * model.layers * model.heads * model.head_size * pairs
    return products + attention + 4 * model.hidden * model.vocabulary * step.labels


def peft(model: Architecture, step: Step) -> float:
    """FLOPs of the same step where every row brings the prompt along, and every position has logits."""
    each = step.positions / step.rows
    attention = 12 * model.layers * model.heads * model.head_size * step.rows * each**2 / 2
    return 4 * model.linear * step.positions + attention + 4 * model.hidden * model.vocabulary * step.positions


CASES = {
    "default": ("embedded default, 20 virtual tokens", SMOLLM, 16),
    "alpaca": ("Alpaca, 20 virtual tokens", SMOLLM, 8),
    "alpaca100": ("Alpaca, 100 virtual tokens", SMOLLM, 8),
    "qwen": ("Qwen2.5-0.5B's architecture, 20 virtual tokens", QWEN, 8),
}
ROWS = 16  # on each GPU
# Alpaca's rows, as measured: tokens after the preamble, labels; 20 virtual tokens and a preamble of 24.
TOKENS, LABELS, PREFIX = 199, 154, 44


def checked() -> str:
    """The model against results/benchmark.json, as Markdown."""
    cases = json.loads((RESULTS / "benchmark.json").read_text(encoding="utf-8"))["cases"]
    head = ["work", "GFLOP a row on paper", "counted", "PEFT on paper", "ratio on paper", "measured"]
    lines = [[*head, "kept, MiB", "peak, MiB"]]
    for case, (name, model, rows) in CASES.items():
        if case not in cases:  # not measured with this engine
            continue
        found = next(run for run in cases[case]["measurements"] if run["side"] == "ours")
        last, figures = found["rounds"][-1], cases[case]["table"][0]
        step = Step(rows, last["shapes"]["prefix"], last["shapes"]["rows"], last["shapes"]["labels"])
        on_paper, baseline = ours(model, step) / rows / 1e9, peft(model, step) / rows / 1e9
        cells = [
            f"{on_paper:.1f}",
            f"{last['useful_gflop'] / found['count']:.1f}",
            f"{baseline:.1f}",
            f"{baseline / on_paper:.2f}x",
            f"{figures['ours'] / figures['baseline_helped']:.2f}x",
            f"{model.kept * (step.prefix + step.tokens) * 4 / 2**20:,.0f}",
            f"{max(figures['mib_above_weights'] for figures in found['rounds']):,.0f}",
        ]
        lines.append([name, *cells])
    return table(lines, texts=1)


def predicted() -> str:
    """Larger models on more GPUs, in bfloat16, as Markdown: a copy of the model on each, or one over all of them."""
    step = Step(ROWS, PREFIX, ROWS * TOKENS, ROWS * LABELS)
    head = ["model", "GPUs", "weights, GB a GPU", "kept, GB a GPU", "rows a step", "rows/s", "PEFT, rows/s"]
    lines = [[*head, "all-reduce, us"]]
    for model, gpus in ((QWEN_7B, 8), (QWEN_7B, 64), (LLAMA_70B, 8), (LLAMA_70B, 64)):
        one_each = 2 * model.weights < H100_MEMORY
        copies, devices = (gpus, 1) if one_each else (1, gpus)
        # Each GPU sends and receives the gradient of the prompt about twice.
        wire = LATENCY + 2 * 20 * model.hidden * 4 / H100_WIRE if one_each else 0.0
        speeds = [copies * ROWS / (flops(model, step) / (SHARE * H100_FLOPS) + wire) for flops in (ours, peft)]
        cells = [
            f"{2 * model.weights / devices / 1e9:.0f}",
            f"{model.kept * (step.prefix + step.tokens) * 2 / devices / 1e9:.1f}",
            f"{copies * ROWS:,}",
            *(f"{speed:,.0f}" for speed in speeds),
            f"{wire * 1e6:.0f}" if one_each else "none",
        ]
        lines.append([model.name, str(gpus), *cells])
    return table(lines, texts=1)


if __name__ == "__main__":
    print(checked(), predicted(), sep="\n\n")
