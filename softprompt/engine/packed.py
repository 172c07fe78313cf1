"""Losses of a packed batch: one forward of batch 1, and logits at the labels alone."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel

from softprompt.engine.attention import packed_attention_in
from softprompt.engine.compiled import MOST_TOKENS, compiled_layers
from softprompt.engine.layout import Group, Layout, alike
from softprompt.engine.losses import label_losses
from softprompt.engine.packing import Packed
from softprompt.engine.prefix import Prompt, prompt_lengths

# A function of tensors alone, and what calls it; a `Graphs` may replay it.
Run = Callable[[Callable[..., Tensor], Sequence[Tensor]], Tensor]


@dataclass(frozen=True)
class Arranged:
    """A packed batch on a device, as a forward takes it.

    Attributes:
        layout: who sees whom.
        tokens, positions, predictors, labels: as in `Packed`; positions count what stands before the tokens.
    """

    layout: Layout
    tokens: Tensor
    positions: Tensor
    predictors: Tensor
    labels: Tensor


def packed_losses(
    model: PreTrainedModel, prompt: Prompt, packed: Packed, *, run: Run | None = None, compiled: bool = False
) -> tuple[Tensor, Tensor]:
    """Losses of all labels of the rows conditioned on `prompt` in `model`, a causal language model.

    Args:
        model: frozen.
        prompt: of one row.
        packed: the rows.
        run: calls a function of tensors alone with its tensors, on a GPU; None: it is called.
        compiled: whether the decoder's layers are compiled for this forward.

    Returns:
        The loss of each label in nats, (labels,), and the row that it is in, (labels,).
    """
    if not prompt_lengths(prompt)[0]:
        packed = packed.behind_nothing()
    if run is None or len(packed.tokens) > MOST_TOKENS:
        arranged = arrange(packed, prompt, model.device)
        losses = _losses(model, prompt, arranged, compiled=compiled)
    else:
        parts = _parts_of(prompt)

        def of_tensors(*tensors: Tensor) -> Tensor:
            whole = _prompt_of(tensors[: len(parts)], prompt)
            return _losses(model, whole, _arranged(tensors[len(parts) :], whole), compiled=compiled)

        losses = run(of_tensors, [*parts, *_tensors(packed, prompt, model.device)])
    row = packed.row.to(model.device, non_blocking=True)
    return losses[: len(row)], row


def _losses(model: PreTrainedModel, prompt: Prompt, arranged: Arranged, *, compiled: bool) -> Tensor:
    """The loss of each label, (labels,)."""
    states = last_states(model, prompt, arranged, compiled=compiled)
    # Of a model that is split over devices, the last layer stands on another one.
    predicting = states.to(model.device)[prompt_lengths(prompt)[0] + arranged.predictors]
    return label_losses(model, predicting, arranged.labels)


def last_states(model: PreTrainedModel, prompt: Prompt, arranged: Arranged, *, compiled: bool = False) -> Tensor:
    """The last hidden states of virtual tokens and tokens, (length, hidden)."""
    embedded = model.get_input_embeddings()(arranged.tokens)
    positions = arranged.positions
    if isinstance(prompt, Tensor):
        embedded = torch.cat([prompt[0], embedded])
        positions = torch.cat([torch.arange(prompt.shape[1], device=positions.device), positions])
    decoder = model.get_decoder()
    with packed_attention_in(decoder), compiled_layers(decoder) if compiled else contextlib.nullcontext():
        output = decoder(
            inputs_embeds=embedded.unsqueeze(0),
            position_ids=positions.unsqueeze(0),
            use_cache=False,
            layout=arranged.layout,
        )
    return output.last_hidden_state[0]


def arrange(packed: Packed, prompt: Prompt, device: torch.device) -> Arranged:
    """`packed`, behind `prompt`, on `device`."""
    if device.type != "cpu":
        return _arranged(_tensors(packed, prompt, device), prompt)
    before = prompt_lengths(prompt)
    layout = Layout(before[0] + packed.preamble, alike(packed.lengths), _trained(prompt))
    return Arranged(layout, packed.tokens, packed.positions + sum(before), packed.predictors, packed.labels)


def _trained(prompt: Prompt) -> DynamicCache | None:
    return prompt if isinstance(prompt, DynamicCache) else None


def _tensors(packed: Packed, prompt: Prompt, device: torch.device) -> list[Tensor]:
    """What `_arranged` is made of; tokens, labels and the width of rows are filled up, so that there are few shapes."""
    before = prompt_lengths(prompt)
    length, count = before[0] + len(packed.tokens), len(packed.labels)
    filler, more = _filled_up(length) - length, _filled_up(count) - count
    group = Group.of(packed.lengths, _filled_up(max(packed.lengths), 32), filler)
    tensors = [group.position, group.place, cast(Tensor, group.padding)]
    tensors += [pad(packed.tokens, (0, filler)), pad(packed.positions + sum(before), (0, filler))]
    tensors += [pad(packed.predictors, (0, more)), pad(packed.labels, (0, more))]  # whose losses come last
    # All in one transfer, which nothing waits for.
    together = torch.cat([tensor.flatten().int() for tensor in tensors])
    if device.type == "cuda":
        together = together.pin_memory()
    together = together.to(device, non_blocking=True)
    parts = together.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


def _filled_up(length: int, least: int = 128) -> int:
    """The next of the lengths that exist: 8 to 16 from one power of two to the next, and `least` apart at least."""
    step = max(least, 2 ** (length.bit_length() - 5))
    return -(-length // step) * step


def _arranged(tensors: Sequence[Tensor], prompt: Prompt) -> Arranged:
    position, place, padding, tokens, *own = tensors
    group = Group(position.long(), place.long(), padding.bool())
    prefix = prompt_lengths(prompt)[0] + len(tokens) - len(place)
    return Arranged(Layout(prefix, [group], _trained(prompt)), tokens.long(), *(tensor.long() for tensor in own))


def _parts_of(prompt: Prompt) -> list[Tensor]:
    if isinstance(prompt, DynamicCache):
        layers: list[Any] = prompt.layers
        return [part for layer in layers for part in (layer.keys, layer.values)]
    return [] if prompt is None else [prompt]


def _prompt_of(parts: Sequence[Tensor], like: Prompt) -> Prompt:
    """The prompt that has these parts, and is of the kind of `like`."""
    if not isinstance(like, DynamicCache):
        return parts[0] if parts else None
    cache = DynamicCache()
    for layer, (keys, values) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
        cache.update(keys, values, layer)
    return cache
