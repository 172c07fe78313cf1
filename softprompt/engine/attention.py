"""Attention over a packed sequence, as an implementation that every attention layer of a model calls.

transformers' `AttentionInterface` knows it by name; the layout of the batch comes with the call (see
`softprompt.engine.layout`). On a CPU rows of similar length are padded to the longest of them, and see the prefix's
keys and their own under one mask, the same for all: nothing but attention sees padding. On a GPU FlexAttention takes
the sequence as it is.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, flex_attention
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from softprompt.engine.layout import Group, Layout

NAME = "packed_rows"
Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """As transformers' own implementations, for the one sequence that `layout` describes.

    Args:
        module: the layer.
        query: (1, heads, length, size).
        key, value: (1, key heads, length, size).
        attention_mask: none: transformers makes none for an implementation that it doesn't know.
        layout: of the sequence.
        scaling: of the scores; None: by the square root of the size.
        sliding_window: positions that a token sees, its own included; None: all before it.
        softcap: bound of the scores.
        s_aux: score of each head's sink, (heads,), which takes part in the softmax and has no value.

    Returns:
        (1, length, heads, size), and no weights.
    """
    layout.windows[module.layer_idx] = sliding_window
    ahead = 0
    if layout.trained is not None:
        trained = layout.trained.layers[module.layer_idx]
        ahead = trained.keys.shape[2]
        key = torch.cat([trained.keys.to(key.device), key], dim=2)
        value = torch.cat([trained.values.to(value.device), value], dim=2)
    seen: dict[str, Any] = {"layout": layout, "ahead": ahead, "window": sliding_window}
    if query.device.type != "cpu":
        return in_blocks(query, key, value, **seen, scaling=scaling, softcap=softcap, sinks=s_aux), None
    if softcap is None and s_aux is None:
        grouped = query.shape[1] != key.shape[1]
        attend: Attend = partial(scaled_dot_product_attention, scale=scaling, enable_gqa=grouped)
    else:
        attend = partial(_attend, scaling=scaling, softcap=softcap, sinks=s_aux)
    return _in_rows(query, key, value, **seen, attend=attend), None


AttentionInterface.register(NAME, packed_attention)


@contextmanager
def packed_attention_in(decoder: PreTrainedModel) -> Iterator[None]:
    """Within the block, the decoder's attention is that over packed sequences."""
    before = decoder.config._attn_implementation  # transformers has a setter in public, and no getter
    decoder.set_attn_implementation(NAME)
    try:
        yield
    finally:
        decoder.set_attn_implementation(before)


def _in_rows(
    query: Tensor, key: Tensor, value: Tensor, *, layout: Layout, ahead: int, window: int | None, attend: Attend
) -> Tensor:
    """By one call for the prefix and one for each group of rows."""
    prefix, common, groups = layout.prefix, ahead + layout.prefix, layout.groups()
    own = [group.length for group in groups]
    # Not by slices: the gradient of each is as large as the whole.
    first_queries, *queries = query.split([prefix, *own], dim=2)
    first_keys, *keys = key.split([common, *own], dim=2)
    first_values, *values = value.split([common, *own], dim=2)
    parts = []
    if prefix:
        mask = layout.mask(prefix, common, window, query.dtype)
        parts.append(attend(first_queries, first_keys, first_values, mask).transpose(1, 2))
    for group, *of_group in zip(groups, queries, keys, values, strict=True):
        q, k, v = (_rows_of(part, group) for part in of_group)
        k = torch.cat([first_keys.expand(group.rows, -1, -1, -1), k], dim=2)
        v = torch.cat([first_values.expand(group.rows, -1, -1, -1), v], dim=2)
        found = attend(q, k, v, layout.mask(group.width, common + group.width, window, query.dtype))
        found = found.transpose(1, 2).flatten(0, 1)
        parts.append(_packed(found, group).unsqueeze(0))
    return torch.cat(parts, dim=1)


def _rows_of(packed: Tensor, group: Group) -> Tensor:
    """(1, heads, positions, size) -> (rows, heads, longest, size)."""
    positions = packed[0].transpose(0, 1)
    return _spread(positions, group).unflatten(0, (group.rows, group.width)).transpose(1, 2)


# Every position of a row has one place among the padded rows, so that each of the two is the other's gradient, by
# copies; torch's own gradient of `index_select` adds row by row.


class _Rearranged(torch.autograd.Function):
    """`x` at the indices `there`, (n, …) -> (m, …); its gradient is the result's at `back`, and zero at `nowhere`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: Tensor, back: Tensor, nowhere: Tensor | None) -> Tensor:
        ctx.back, ctx.nowhere = back, nowhere
        return x.index_select(0, there)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        gradient = gradients[0].index_select(0, ctx.back)
        return gradient if ctx.nowhere is None else gradient.index_fill_(0, ctx.nowhere, 0), None, None, None


def _spread(x: Tensor, group: Group) -> Tensor:
    """(positions, …) of a group's rows -> (rows x longest, …); what stands at padding is anything finite."""
    # The gradient at padding is zero: no real query sees it, and what a padded query finds is dropped.
    return _Rearranged.apply(x, group.position, group.place, None) if len(group.padding) else x


def _packed(x: Tensor, group: Group) -> Tensor:
    """(rows x longest, …) -> (positions, …) of a group's rows, without the padding."""
    return _Rearranged.apply(x, group.place, group.position, group.padding) if len(group.padding) else x


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    *,
    scaling: float | None,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """What torch's own function can't: bounded scores, and sinks."""
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = (scores / softcap).tanh() * softcap
    scores = scores + mask
    if sinks is not None:
        sink = sinks.to(scores.dtype).view(1, -1, 1, 1).expand(len(scores), -1, scores.shape[2], 1)
        scores = torch.cat([scores, sink], dim=3)
    weights = scores.softmax(dim=3, dtype=torch.promote_types(scores.dtype, torch.float32)).to(value.dtype)
    return weights[..., : key.shape[2]] @ value


def in_blocks(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    layout: Layout,
    ahead: int,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """By FlexAttention, after `ahead` trained keys; arguments and result are those of `packed_attention`."""

    def bounded(score: Tensor, *_: Tensor) -> Tensor:
        return score if softcap is None else torch.tanh(score / softcap) * softcap

    found, aux = _flex(query.device.type)(
        query,
        key,
        value,
        score_mod=None if softcap is None else bounded,
        block_mask=layout.blocks(ahead, window),
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
        return_aux=AuxRequest(lse=True),
    )
    if sinks is not None:  # a sink adds exp(sink) to the softmax's denominator
        found = found * torch.sigmoid(aux.lse - sinks.view(1, -1, 1)).unsqueeze(3).to(found.dtype)
    return found.transpose(1, 2).contiguous()


@cache
def _flex(device: str) -> Any:
    # Compiled by ourselves: transformers' wrapper does it in `max-autotune` mode for training, which takes minutes.
    return flex_attention if device == "cpu" else torch.compile(flex_attention)
