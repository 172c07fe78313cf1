"""Layers that bitsandbytes quantized to 4 bits, in a frozen model that gradients pass through."""

from torch import nn


def keep_differentiable(model: nn.Module) -> None:
    """Have the 4-bit layers of `model` stay in the form that has a backward pass.

    On a CPU with AVX512-BF16, such a layer's first forward in evaluation mode and without a gradient repacks its weight
    in place, for products in bfloat16 through which no gradient flows. Training takes that for zero, in silence, and a
    frozen model is always in evaluation mode.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):  # of `bitsandbytes.nn.Linear4bit`
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
