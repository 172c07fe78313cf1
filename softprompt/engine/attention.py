"""Attention over a packed sequence, as an implementation that every attention layer of a model calls.

transformers' `AttentionInterface` knows it by name; the layout of the batch comes with the call (see
`softprompt.engine.layout`). Rows are padded to one width, and see the prefix's keys and their own under one mask, the
same for all: nothing but attention sees padding. Padding stands after a row's tokens, so the mask is the causal one of
queries that stand at the last of the keys, which a GPU's flash kernels know without a tensor.

FlexAttention would take the sequence as it is. On an H200 it needed 9 ms for a layer's backward of 32 rows of 512
tokens, where PEFT's whole forward and backward have 7 ms a layer: all queries look at the prefix's block of keys,
which one processor works off.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from softprompt.engine.layout import Group, Layout

NAME = "packed_rows"
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


@torch.compiler.disable  # how many groups there are, and how wide, would be compiled in
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
    if layout.windows is not None:
        layout.windows[module.layer_idx] = sliding_window
    ahead = 0
    if layout.trained is not None:
        trained = layout.trained.layers[module.layer_idx]
        ahead = trained.keys.shape[2]
        key = torch.cat([trained.keys.to(key.device), key], dim=2)
        value = torch.cat([trained.values.to(value.device), value], dim=2)
    dtype = query.dtype
    if query.device.type == "cpu":
        # torch's kernels for bfloat16 there take six times as long in backward, and round more.
        query, key, value = (of.to(torch.promote_types(dtype, torch.float32)) for of in (query, key, value))
    attend = partial(_attend, window=sliding_window, scaling=scaling, softcap=softcap, sinks=s_aux, layout=layout)
    return _in_rows(query, key, value, layout=layout, ahead=ahead, attend=attend).to(dtype), None


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


def _in_rows(query: Tensor, key: Tensor, value: Tensor, *, layout: Layout, ahead: int, attend: Attend) -> Tensor:
    """By one call for the prefix and one for each group of rows."""
    prefix, common = layout.prefix, ahead + layout.prefix
    own = [len(group.place) for group in layout.groups]
    # Not by slices: the gradient of each is as large as the whole.
    first_queries, *queries = query.split([prefix, *own], dim=2)
    first_keys, *keys = key.split([common, *own], dim=2)
    first_values, *values = value.split([common, *own], dim=2)
    parts = []
    if prefix:
        parts.append(attend(first_queries, first_keys, first_values).transpose(1, 2))
    for group, *of_group in zip(layout.groups, queries, keys, values, strict=True):
        q, k, v = (_rows_of(part, group) for part in of_group)
        k = torch.cat([first_keys.expand(group.rows, -1, -1, -1), k], dim=2)
        v = torch.cat([first_values.expand(group.rows, -1, -1, -1), v], dim=2)
        found = attend(q, k, v).transpose(1, 2).flatten(0, 1)
        parts.append(_packed(found, group).unsqueeze(0))
    return torch.cat(parts, dim=1)


def _rows_of(packed: Tensor, group: Group) -> Tensor:
    """(1, heads, positions, size) -> (rows, heads, width, size); what stands at padding is anything finite."""
    positions = packed[0].transpose(0, 1)
    if group.padding is not None:
        # The gradient at padding is zero: no real query sees it, and what a padded query finds is dropped.
        positions = _Rearranged.apply(positions, group.position.flatten(), group.place, None)
    return positions.unflatten(0, (group.rows, group.width)).transpose(1, 2)


def _packed(x: Tensor, group: Group) -> Tensor:
    """(rows x width, …) -> (positions, …) of a group's rows, without the padding."""
    if group.padding is None:
        return x
    return _Rearranged.apply(x, group.place, group.position.flatten(), group.padding.flatten())


class _Rearranged(torch.autograd.Function):
    """`x` at the indices `there`, (n, …) -> (m, …); its gradient is the result's at `back`, and zero where `nowhere`.

    Every position of a row has one place among the padded rows, so that each is the other's gradient, by copies;
    torch's own gradient of `index_select` adds row by row.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: Tensor, back: Tensor, nowhere: Tensor | None) -> Tensor:
        ctx.back, ctx.nowhere = back, nowhere
        return x.index_select(0, there)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        gradient = gradients[0].index_select(0, ctx.back)
        if ctx.nowhere is not None:
            gradient.masked_fill_(ctx.nowhere.view(-1, *[1] * (gradient.dim() - 1)), 0)
        return gradient, None, None, None


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    window: int | None,
    scaling: float | None,
    softcap: float | None,
    sinks: Tensor | None,
    layout: Layout,
) -> Tensor:
    """Attention of queries that stand at the last positions of the keys, each in one tensor of padded rows."""
    queries, keys, repeats = query.shape[2], key.shape[2], query.shape[1] // key.shape[1]
    on_cpu, plain = query.device.type == "cpu", softcap is None and sinks is None
    # Flash kernels take grouped keys, other kernels of a GPU don't.
    flash = window is None and query.dtype in (torch.float16, torch.bfloat16)
    if repeats > 1 and not (plain and (on_cpu or flash)):
        key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    if plain:
        causal = not on_cpu and window is None
        mask = causal_lower_right(queries, keys) if causal else layout.mask(queries, keys, window, query)
        grouped = key.shape[1] != query.shape[1]
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling, enable_gqa=grouped)
    scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = (scores / softcap).tanh() * softcap
    scores = scores + layout.mask(queries, keys, window, query)
    if sinks is not None:
        sink = sinks.to(scores.dtype).view(1, -1, 1, 1).expand(len(scores), -1, scores.shape[2], 1)
        scores = torch.cat([scores, sink], dim=3)
    weights = scores.softmax(dim=3, dtype=torch.promote_types(scores.dtype, torch.float32)).to(value.dtype)
    return weights[..., : key.shape[2]] @ value
