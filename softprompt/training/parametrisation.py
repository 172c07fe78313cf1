"""What is trained in place of a prompt's own numbers; where training ends, the prompt is plain numbers again."""

import numpy as np
import torch
from peft import PeftType
from torch import Tensor, nn
from torch.nn.utils import parametrize

from softprompt.config.train import Train
from softprompt.engine.model import SharedPrefixModel
from softprompt.training.drawing import draw

BOTTLENECK = 256  # inner width of the residual block; between 50 and 800 in its paper (section 4), to little effect


class Steps(nn.Module):
    """`start + unit * trained`: how far each number of the prompt has come, in a unit of its own; 0: it stays.

    Adam's steps are as long as the learning rate in these units, whatever the gradient's scale is.
    """

    def __init__(self, start: Tensor, unit: Tensor) -> None:
        super().__init__()
        self.register_buffer("start", start.detach().clone())
        self.register_buffer("unit", unit)

    def forward(self, trained: Tensor) -> Tensor:
        """The prompt, of the shape of `trained`."""
        return torch.addcmul(self.get_buffer("start"), self.get_buffer("unit"), trained)

    def right_inverse(self, prompt: Tensor) -> Tensor:
        """What stands for `start`, where training sets out: zero."""
        return torch.zeros_like(prompt)


class Residual(nn.Module):
    """`prompt + free * up(relu(down(prompt)))`, one block for all virtual tokens (Razdaibiedina et al. 2023,
    arXiv:2305.03937).

    Beyond the paper, `up` begins at zero in place of a layer norm, so that the prompt begins exactly where it would
    without the block.

    Args:
        prompt: (virtual tokens, hidden).
        free: 1 for each virtual token that may change, else 0, (virtual tokens, 1).
        generator: draws `down`.
    """

    def __init__(self, prompt: Tensor, free: Tensor, generator: np.random.Generator) -> None:
        super().__init__()
        width = prompt.shape[1]
        self.down, self.up = nn.Linear(width, BOTTLENECK), nn.Linear(BOTTLENECK, width, bias=False)
        draw(self.down, generator)
        nn.init.zeros_(self.up.weight)
        self.to(prompt.device)
        self.register_buffer("free", free)

    def forward(self, prompt: Tensor) -> Tensor:
        """The prompt with what the block adds to it."""
        return prompt + self.get_buffer("free") * self.up(torch.relu(self.down(prompt)))


def parametrise(model: SharedPrefixModel, train: Train, generator: np.random.Generator) -> None:
    """Have the prompt of `model`, as it is now, trained through what `train` asks for.

    Keys and values are always trained in steps relative to their layer's own size, since layers and models differ in it
    by orders of magnitude: one learning rate serves all. `generator` draws what is random.
    """
    kind = model.active_peft_config.peft_type
    if kind not in (PeftType.PROMPT_TUNING, PeftType.PREFIX_TUNING):
        return
    embedding = model.get_submodule("prompt_encoder.default.embedding")
    weight = embedding.get_parameter("weight")
    free = torch.ones(len(weight), 1, device=weight.device)
    free[0] = 0.0 if train.freeze_first else 1.0
    through: list[nn.Module] = []
    if kind == PeftType.PREFIX_TUNING:
        layers = model.active_peft_config.num_layers
        through.append(Steps(weight, free * units(weight.detach(), layers, train.keys_lr_ratio)))
    elif train.freeze_first:
        through.append(Steps(weight, free))
    if train.residual and kind == PeftType.PROMPT_TUNING:
        through.append(Residual(weight, free, generator))
    for module in through:
        parametrize.register_parametrization(embedding, "weight", module)


def units(prefix: Tensor, layers: int, keys: float) -> Tensor:
    """Root mean square of each layer's keys, times `keys`, and of its values, for each of their numbers, (1, width).

    It is the median over the virtual tokens, since in many models the first one's are unlike all others; 1 where that
    is 0.

    Args:
        prefix: keys and values as PEFT lays them out, (virtual tokens, width): of each layer first its keys.
        layers: how many the model has.
        keys: learning rate of keys over that of values.
    """
    parts = prefix.cpu().view(len(prefix), layers, 2, -1)  # a GPU has no deterministic median
    size = parts.square().mean(dim=3).sqrt().median(dim=0).values
    size = torch.where(size > 0, size, 1.0) * torch.tensor([keys, 1.0])
    return size.unsqueeze(2).expand(parts.shape[1:]).reshape(1, -1).to(prefix.device)


def merge(model: SharedPrefixModel) -> None:
    """Make the prompt of `model` plain numbers again, those that it has now."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")
