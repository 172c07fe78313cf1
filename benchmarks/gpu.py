"""The case that needs a GPU: Qwen2.5-0.5B's architecture in bfloat16 behind a float32 prompt, 32 rows of 512 tokens."""

import torch
from transformers import AutoConfig

from benchmarks import rows
from benchmarks.runner import Runner
from benchmarks.table import Line
from stages.workspace.paths import BASE_MODEL

# FLOP/s of dense bf16 products, by NVIDIA's data sheets; the first name that the device's has in it counts.
PEAKS = {"H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "A100": 312e12}
SIDES = ("peft", "ours", "ours, compiled")


def gpu(runner: Runner) -> list[Line]:
    """Tokens per second, share of the device's peak (MFU, by the useful work of a step), memory; also compiled."""
    found = torch.cuda.is_available()
    device, name = ("cuda", torch.cuda.get_device_name()) if found else ("cpu", "a CPU, for want of a GPU")
    batch_size, length, steps = (2, 32, 2) if runner.quick else (32, 512, 20)
    model, path = runner.folder / "qwen", runner.folder / "made.arrow"
    if runner.quick:
        model = BASE_MODEL
    elif not model.exists():
        runner.once({"kind": "write_qwen", "folder": str(model)})
    rows.write_random_rows(path, batch_size * steps, length, AutoConfig.from_pretrained(model).vocab_size)
    shared = {
        "rows": str(path), "model": str(model), "virtual_tokens": 20, "batch_size": batch_size, "accumulation": 1,
        "count": batch_size * steps, "length": length, "device": device, "dtype": "bfloat16",
    }  # fmt: skip
    measured = runner.medians(*({"kind": "train", "side": side, **shared} for side in SIDES))
    rival, ours, compiled = measured
    tokens = [figures["rows_per_second"] * length for figures in measured]
    work = f"train, Qwen2.5-0.5B's architecture, bfloat16, {batch_size} rows x {length} tokens, {name}"
    note = (
        f"all rows have {length} tokens. With torch.compile on each layer: {tokens[2]:,.0f} tokens/s after a first "
        f"step of {compiled['warm_up_seconds']:.1f} s, which takes {ours['warm_up_seconds']:.1f} s without"
    )
    lines = [Line(work, "tokens/s", tokens[0], None, tokens[1], note=note)]
    if peak := next((flops for part, flops in PEAKS.items() if part in name), None):
        shares = [100 * ours["useful_gflop"] * 1e9 / figures["seconds"] / peak for figures in measured]
        note = (
            f"useful work of a step (no padding, nothing twice), the same on both sides, by {peak / 1e12:.0f} TFLOP/s"
        )
        lines.append(Line(f"{work}: MFU", "%", shares[0], None, shares[1], note=note))
    memory = [figures["mib_above_weights"] for figures in (rival, ours)]
    return [*lines, Line(f"{work}: peak memory", "MiB above the weights", memory[0], None, memory[1])]
