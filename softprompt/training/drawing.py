"""Random beginnings of what is trained, drawn with numpy, whose streams are the same on every CPU."""

import numpy as np
import torch
from torch import nn


def draw(module: nn.Module, generator: np.random.Generator) -> None:
    """The distributions that torch's modules have: standard normal embeddings, uniform layers of 1/sqrt(inputs)."""
    for part in module.modules():
        if isinstance(part, nn.Embedding):
            put(part.weight, generator.standard_normal(tuple(part.weight.shape), dtype=np.float32))
        elif isinstance(part, nn.Linear | nn.LSTM):
            bound = (part.hidden_size if isinstance(part, nn.LSTM) else part.in_features) ** -0.5
            for parameter in part.parameters():
                _uniform(parameter, bound, generator)


def draw_lora(model: nn.Module, generator: np.random.Generator) -> None:
    """PEFT's distribution: uniform layers of 1/sqrt(inputs) that come first; the second ones stay zero."""
    for name, weight in model.named_parameters():
        if ".lora_A." in name:
            _uniform(weight, weight.shape[1] ** -0.5, generator)


def _uniform(parameter: nn.Parameter, bound: float, generator: np.random.Generator) -> None:
    put(parameter, generator.uniform(-bound, bound, tuple(parameter.shape)).astype(np.float32))


@torch.no_grad()
def put(parameter: torch.Tensor, values: torch.Tensor | np.ndarray) -> None:
    """Set a parameter to values of its shape."""
    parameter.copy_(torch.as_tensor(values))
