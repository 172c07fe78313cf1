"""A loss that is not finite ends the stage, with the parameter to change."""

import math

import torch

from softprompt.engine.model import SharedPrefixModel
from softprompt.runtime.errors import InputError


def check_finite(model: SharedPrefixModel, loss: float, what: str, allowed: str) -> None:
    """Refuse a loss that is not finite.

    Args:
        model: whose loss it is.
        loss: in nats.
        what: what it is the loss of, as the message begins.
        allowed: what would help. In float16 another precision comes before it: where activations of the base model
            itself pass the largest number, nothing else does.

    Raises:
        InputError: naming `model.dtype` where the model computes in float16.
    """
    if math.isfinite(loss):
        return
    if model.frozen.dtype == torch.float16:
        allowed = f"bfloat16 or float32 as model.dtype (float16 overflows above 65,504), else {allowed}"
    raise InputError(f"{what} is {loss}; allowed: {allowed}")
