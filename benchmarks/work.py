"""How much arithmetic a training step can't do without, and how fast this machine's matrix products are."""

import itertools
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor, nn

from softprompt.engine.losses import LABELS_AT_ONCE
from softprompt.engine.packing import pack

SECONDS = 0.15  # for each product of each shape


def useful_work(model: PeftModel, batches: list[dict[str, list]]) -> dict[str, Any]:
    """Floating-point operations of the matrix products that an exact step has to do, and the shapes of an average one.

    Useful are, per batch: the virtual tokens and the common preamble once, and every further token of a row but its
    last, which predicts nothing; no padding. Of each, all linear layers forward and the gradient by their input (in the
    first layer, queries, keys and values of the rows need none), and attention over the pairs that see each other, two
    products forward and four backward; the output layer at labels, forward and gradient.

    Args:
        model: whose base model is trained behind a prompt.
        batches: columns of each batch's rows.
    """
    config = model.config.get_text_config()
    prompt: Any = model.peft_config["default"]
    linear = sum(inputs * outputs * count for (inputs, outputs), count in linear_layers(model).items())
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    first = config.hidden_size * (config.num_attention_heads + 2 * config.num_key_value_heads) * size
    pair = 2 * 2 * config.num_attention_heads * size  # of one layer, forward
    flops, prefixes, tokens, labels = 0, 0, 0, 0
    for columns in batches:
        packed = pack([{name: columns[name][i] for name in columns} for i in range(len(columns["input_ids"]))])
        prefix, own = prompt.num_virtual_tokens + packed.preamble, np.array(packed.lengths)
        labelled = len(packed.labels)
        prefixes, tokens, labels = prefixes + prefix, tokens + int(own.sum()), labels + labelled
        flops += 4 * linear * prefix + (4 * linear - 2 * first) * int(own.sum())
        flops += 4 * config.hidden_size * config.vocab_size * labelled
        within = prefix * (prefix + 1) // 2
        across = int((own * prefix + own * (own + 1) // 2).sum())
        flops += 3 * pair * config.num_hidden_layers * within + pair * (3 * config.num_hidden_layers - 2) * across
    average = {"prefix": prefixes // len(batches), "rows": tokens // len(batches), "labels": labels // len(batches)}
    return {"useful_gflop": flops / 1e9, "shapes": average}


def linear_layers(model: PeftModel) -> Counter[tuple[int, int]]:
    """How many linear layers of each (inputs, outputs) the decoder has; the output layer not among them."""
    base: Any = model.get_base_model()
    head = base.get_output_embeddings()
    layers = (module for module in model.modules() if isinstance(module, nn.Linear) and module is not head)
    return Counter((layer.in_features, layer.out_features) for layer in layers)


def gemm_limit(model: PeftModel, shapes: dict[str, int]) -> dict[str, Any]:
    """GFLOP/s of the fastest matrix product that torch offers, over the shapes of an average batch.

    Each layer's forward and input gradient is measured by itself, for the prefix, the rows and one chunk of the output
    layer, with MKL (torch.mm) and with oneDNN (as in `softprompt.engine.linear`); the faster one counts. The weights
    of a shape's layers are taken in turn, since a step has to read every one of them from memory; what the same weight
    over and over would give, out of the processor's cache, is measured as well.

    Returns:
        `mkl_gflops`, `onednn_gflops`, `fastest_gflops`, and `cached_gflops`: the fastest with one weight.
    """
    config = model.config.get_text_config()
    head = (config.hidden_size, config.vocab_size)
    chunk = min(shapes["labels"], LABELS_AT_ONCE)
    products = [
        (rows, layer, count)
        for rows in (shapes["prefix"], shapes["rows"])
        for layer, count in linear_layers(model).items()
    ]
    total: Counter[str] = Counter()
    flops = 0.0
    for rows, (inputs, outputs), count in [*products, (chunk, head, shapes["labels"] / chunk)]:
        weights = [torch.randn(outputs, inputs) for _ in range(count if isinstance(count, int) else 1)]
        for transposed in (False, True):
            cached = _seconds(rows, weights[:1], transposed=transposed)
            in_turn = _seconds(rows, weights, transposed=transposed)
            seconds = {**in_turn, "fastest": min(in_turn.values()), "cached": min(cached.values())}
            total.update({name: value * count for name, value in seconds.items()})
            flops += 2 * rows * inputs * outputs * count
    return {f"{name}_gflops": flops / seconds / 1e9 for name, seconds in total.items()}


def _seconds(rows: int, weights: list[Tensor], *, transposed: bool) -> dict[str, float]:
    """Median seconds of `x @ weight.T`, or of the gradient by x, over weights of (outputs, inputs), in turn."""
    factors = [weight.t() if transposed else weight for weight in weights]
    x = torch.randn(rows, factors[0].shape[1])
    return {
        "mkl": _median(lambda factor: torch.mm(x, factor.t()), factors),
        "onednn": _median(lambda factor: torch.ops.mkldnn._linear_pointwise(x, factor, None, "none", [], ""), factors),
    }


def _median(product: Callable[[Tensor], Tensor], factors: list[Tensor]) -> float:
    product(factors[0])
    times: list[float] = []
    for factor in itertools.cycle(factors):
        start = time.perf_counter()
        product(factor)
        times.append(time.perf_counter() - start)
        if sum(times) >= SECONDS and len(times) > max(5, len(factors)):
            return statistics.median(times)
    raise AssertionError("there are no factors")
