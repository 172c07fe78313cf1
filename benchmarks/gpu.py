"""A GPU's figures, side by side in one process: `python -m benchmarks.gpu [OUTPUT [CASE …]]`, to results/gpu.json.

The model has Qwen2.5-0.5B's architecture, random weights in bfloat16, and a prompt in float32. The sides take turns,
batch by batch, and have to agree on every loss. Without a GPU a small model shows that the script works.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PromptTuningConfig, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel, Qwen2ForCausalLM

from benchmarks.cost import H100_FLOPS
from benchmarks.models import qwen_config
from benchmarks.work import useful_work
from softprompt.data.tokens import IGNORED, Row
from softprompt.engine.batches import collate
from softprompt.engine.compiled import Graphs
from softprompt.engine.model import SharedPrefixModel
from softprompt.engine.row_losses import row_losses
from softprompt.runtime.markdown import table as markdown_table

ROUNDS = 12
TOLERANCE = 0.02  # of a batch's mean loss: bfloat16 has 8 bits, and sides sum in another order
Step = Callable[[list[Row]], Tensor]
Figures = dict[str, dict[str, float]]
SIDES = ("peft", "ours", "ours, compiled")


def made_rows(count: int, shortest: int, longest: int, vocabulary: int, seed: int = 1) -> list[Row]:
    """Rows of random tokens; the last three quarters of each are labels."""
    generator, rows = np.random.default_rng(seed), []
    for length in generator.integers(shortest, longest + 1, count):
        ids = generator.integers(0, vocabulary, length)
        labels = np.where(np.arange(length) < length // 4, IGNORED, ids)
        rows.append({"input_ids": ids, "labels": labels})
    return rows


def base_model() -> PreTrainedModel:
    """The frozen model, on the GPU if there is one."""
    torch.manual_seed(0)
    config = qwen_config()
    if not torch.cuda.is_available():
        config.update({"vocab_size": 5000, "hidden_size": 112, "intermediate_size": 256, "num_hidden_layers": 2})
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = Qwen2ForCausalLM(config)
    return model.bfloat16().eval().requires_grad_(False)


def new_model(base: PreTrainedModel, side: str, virtual_tokens: int) -> Any:
    """The side's model on `base`: "peft" or "ours", then what it is told to do."""
    torch.manual_seed(5)  # the same prompt on all sides
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=virtual_tokens)
    model: Any = get_peft_model(base, config) if side.startswith("peft") else SharedPrefixModel(base, config)
    model.to(base.device)
    if side.startswith("ours"):
        model.graphs = Graphs() if torch.cuda.is_available() else None
        model.compiled = side == "ours, compiled"
    return model


def new_step(model: Any, side: str) -> Step:
    """Takes a batch forward and backward, and gives its loss."""

    def padded(rows: list[Row]) -> Tensor:
        batch = {name: values.to(model.device) for name, values in collate(rows).items()}
        loss = model(**batch).loss
        loss.backward()
        return loss.detach()

    def packed(rows: list[Row]) -> Tensor:
        torch.use_deterministic_algorithms(True)  # as the pipeline's stages have it
        loss = model.token_losses(rows)[0].mean()
        loss.backward()
        torch.use_deterministic_algorithms(False)
        return loss.detach()

    return padded if side.startswith("peft") else packed


def training(rows: int, shortest: int, longest: int, virtual_tokens: int) -> Figures:
    """Forward and backward of a batch on each side."""
    base = base_model()
    batches = [made_rows(rows, shortest, longest, base.config.vocab_size, seed) for seed in range(4)]
    steps, figures, losses, gradients = {}, {}, {}, {}
    for side in SIDES:
        model = new_model(base, side, virtual_tokens)
        steps[side] = new_step(model, side)
        before, start = memory(), time.perf_counter()
        losses[side] = [float(steps[side](batch)) for batch in batches]  # compiles, captures
        figures[side] = {
            "first_seconds": round(time.perf_counter() - start, 2),
            "mib": round((peak() - before) / 2**20),
        }
        (prompt,) = model.prompt_encoder.parameters()
        gradients[side] = float(prompt.grad.norm())
    seconds = in_turn({side: partial(of_batches, step, batches) for side, step in steps.items()})
    columns = [{name: [np.asarray(row[name]).tolist() for row in batch] for name in batch[0]} for batch in batches]
    flops = useful_work(model, columns)["useful_gflop"] * 1e9 / len(batches)
    for side in SIDES:
        mfu = 100 * flops / statistics.median(seconds[side]) / H100_FLOPS
        figures[side] |= {**spread(seconds[side]), "mfu": round(mfu, 2)}
        np.testing.assert_allclose(losses[side], losses["peft"], rtol=TOLERANCE)
        np.testing.assert_allclose(gradients[side], gradients["peft"], rtol=TOLERANCE)
    return figures


def of_batches(step: Step, batches: list[list[Row]], number: int) -> None:
    """Take one of the batches, in turn."""
    step(batches[number % len(batches)])


def in_turn(sides: Mapping[str, Callable[[int], None]], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds of each round of each side."""
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds):
        for side, run in sides.items():
            wait()
            start = time.perf_counter()
            run(number)
            wait()
            seconds[side].append(time.perf_counter() - start)
    return seconds


def spread(seconds: list[float]) -> dict[str, float]:
    """Median, least and most, in ms."""
    found = {"ms": statistics.median(seconds), "least": min(seconds), "most": max(seconds)}
    return {name: round(1e3 * value, 1) for name, value in found.items()}


def scoring() -> Figures:
    """The loss of 1,000 rows of 64 to 256 tokens."""
    base = base_model()
    rows = made_rows(1000 if torch.cuda.is_available() else 40, 64, 256, base.config.vocab_size)
    found: dict[str, float] = {}

    def run(side: str, model: Any, number: int) -> None:
        if side == "ours":
            losses, tokens = row_losses(model, rows, 64)
            found[side] = losses.sum() / tokens.sum()
            return
        total, count = 0.0, 0
        with torch.inference_mode():
            for start in range(0, len(rows), 16):
                batch = {name: values.to(base.device) for name, values in collate(rows[start : start + 16]).items()}
                labels = int((batch["labels"] != IGNORED).sum())
                total, count = total + float(model(**batch).loss) * labels, count + labels
        found[side] = total / count

    runs = {side: partial(run, side, new_model(base, side, 20)) for side in SIDES[:2]}
    in_turn(runs, 1)
    seconds = in_turn(runs, 3)
    np.testing.assert_allclose(found["ours"], found["peft"], rtol=TOLERANCE)
    return {side: spread(of) for side, of in seconds.items()}


def answering() -> Figures:
    """Greedy answers of 48 tokens to 64 questions of 16 to 64 tokens."""
    base = base_model()
    questions = [torch.from_numpy(row["input_ids"]) for row in made_rows(64, 16, 64, base.config.vocab_size)]
    pad = partial(torch.nn.utils.rnn.pad_sequence, batch_first=True, padding_side="left")
    ids, mask = pad(questions).to(base.device), pad([torch.ones_like(row) for row in questions]).to(base.device)
    settings = {"do_sample": False, "min_new_tokens": 48, "max_new_tokens": 48}

    def run(model: Any, number: int) -> None:
        torch.use_deterministic_algorithms(isinstance(model, SharedPrefixModel))
        model.generate(input_ids=ids, attention_mask=mask, **settings)
        torch.use_deterministic_algorithms(False)

    runs = {side: partial(run, new_model(base, side, 20)) for side in SIDES[:2]}
    in_turn(runs, 1)
    return {side: spread(seconds) for side, seconds in in_turn(runs, 3).items()}


CASES: dict[str, Callable[..., Figures]] = {
    "train, 8 rows of 192 to 256 tokens, 20 virtual tokens": partial(training, 8, 192, 256, 20),
    "train, 16 rows of 120 to 160 tokens, 100 virtual tokens": partial(training, 16, 120, 160, 100),
    "train, 32 rows of 512 tokens, 20 virtual tokens": partial(training, 32, 512, 512, 20),
    "loss of 1,000 rows of 64 to 256 tokens": scoring,
    "greedy answers, 64 of 48 tokens": answering,
}


def table(found: dict[str, Any]) -> str:
    """The figures as Markdown: the median and the range of ms, and what PEFT's median is a multiple of."""
    header = ["work", "side", "ms", "range", "ratio", "share of peak", "MiB above the weights"]
    lines = [header]
    for case, sides in found["cases"].items():
        for side, figures in sides.items():
            ratio = sides["peft"]["ms"] / figures["ms"]
            spread = f"{figures['least']:,.0f} to {figures['most']:,.0f}"
            share = f"{figures['mfu']:.1f}%" if "mfu" in figures else ""
            mib = f"{figures['mib']:,.0f}" if "mib" in figures else ""
            lines.append([case, side, f"{figures['ms']:,.1f}", spread, f"{ratio:.2f}x", share, mib])
    return markdown_table(lines, texts=len(header))


def main(output: Path, wanted: list[str]) -> None:
    """Measure the cases whose numbers are given, or all; write the figures after each."""
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "a CPU"
    found: dict[str, Any] = {"device": name, "torch": torch.__version__, "cases": {}}
    for number, (case, measure) in enumerate(CASES.items()):
        if wanted and str(number) not in wanted:
            continue
        found["cases"][case] = measure()
        output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(found))


def memory() -> int:
    """Bytes that are in use; the peak is counted anew from here on."""
    if not torch.cuda.is_available():
        return 0
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def peak() -> int:
    """The most bytes that were in use since."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0


def wait() -> None:
    """Until the GPU has done all."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results/gpu.json"), sys.argv[2:])
