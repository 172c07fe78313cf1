"""A batch behind one prefix: what all of its rows begin with is run once, with batch 1, and its cache is expanded.

Under causal attention, keys and values at a position depend on nothing after it. Let a batch of rows be x_i = c + y_i,
with a common beginning c (virtual tokens, then a preamble that holds no label). Then in every layer the keys and values
at c are the same tensors K_c, V_c for all rows, and row i is

    attention(Q(y_i), [K_c ; K(y_i)], [V_c ; V(y_i)])

so c runs once. `expand` makes rows of K_c without copying, and its gradient is the sum over the rows, which is what the
loss's gradient by K_c is: the result is exact, in forward and in backward.

The preamble ends before the last token of the shortest row, and where any two rows differ or any has a label. The last
position of the prefix then predicts the first token after it, so its hidden state stands in for the rows' own wherever
a row's first remaining token is a label. Rows are right-padded here, whatever they came as: causal attention lets no
token see the padding after it, so no padding mask exists, and positions count from the prefix on.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from softprompt.data.tokens import IGNORED
from softprompt.engine.losses import label_losses


@dataclass(frozen=True)
class Rows:
    """A batch, padded on the right: each (rows, length), int64. Padding has the label `IGNORED`."""

    input_ids: Tensor
    labels: Tensor
    lengths: Tensor  # (rows,): tokens of each row

    @classmethod
    def of(cls, input_ids: Tensor, attention_mask: Tensor | None, labels: Tensor) -> "Rows":
        """The rows without their padding, wherever it stood, then padded on the right.

        All arguments are (rows, length); without a mask there is no padding.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        real = attention_mask.bool()
        order = (~real).to(torch.int8).argsort(dim=1, stable=True)
        lengths = real.sum(dim=1)
        longest = int(lengths.max())
        padding = torch.arange(longest, device=lengths.device) >= lengths.unsqueeze(1)
        ids = input_ids.gather(1, order)[:, :longest].masked_fill(padding, 0)
        return cls(ids, labels.gather(1, order)[:, :longest].masked_fill(padding, IGNORED), lengths)

    @property
    def width(self) -> int:
        """Tokens of the longest row."""
        return self.input_ids.shape[1]

    def select(self, chosen: Tensor) -> "Rows":
        """The rows of the indices `chosen`, (n,), no wider than they need."""
        width = int(self.lengths[chosen].max())
        return Rows(self.input_ids[chosen, :width], self.labels[chosen, :width], self.lengths[chosen])

    def preamble_length(self) -> int:
        """Tokens that all rows begin with, none of them a label, and after which each row has a token left."""
        limit = max(0, int(self.lengths.min()) - 1)
        ids, labels = self.input_ids[:, :limit], self.labels[:, :limit]
        common = ((ids == ids[:1]) & (labels == IGNORED)).all(dim=0)
        return int(common.cumprod(dim=0).sum())


@dataclass(frozen=True)
class Prefix:
    """What stands before every row.

    Attributes:
        cache: keys and values of each layer, (1, heads, length, head size); None where there is no prefix.
        last: hidden state of the last position, (1, hidden); None where nothing was run (no prefix, or one that is
            nothing but keys and values), so that nothing predicts the first token.
        preamble: how many of its positions are tokens of the rows.
    """

    cache: DynamicCache | None
    last: Tensor | None
    preamble: int

    def tensors(self) -> list[Tensor]:
        """Everything that a row reads."""
        read = [tensor for layer in _layers(self.cache) for tensor in (layer.keys, layer.values)]
        return read if self.last is None else [*read, self.last]

    def expanded(self, rows: int) -> DynamicCache | None:
        """The cache for `rows` rows; nothing is copied, and what they append stays out of this one."""
        return self._cache_of(lambda tensor: tensor.expand(rows, -1, -1, -1))

    def detached(self) -> "Prefix":
        """The same values as leaves of a new graph, at which the gradients of several backward passes add up."""
        last = None if self.last is None else _leaf(self.last)
        return replace(self, cache=self._cache_of(_leaf), last=last)

    def _cache_of(self, change: Callable[[Tensor], Tensor]) -> DynamicCache | None:
        if self.cache is None:
            return None
        cache = copy.copy(self.cache)
        cache.layers = [copy.copy(layer) for layer in self.cache.layers]
        for layer in _layers(cache):
            layer.keys, layer.values = change(layer.keys), change(layer.values)
        return cache


def _layers(cache: DynamicCache | None) -> list[Any]:
    """The layers that hold anything: some architectures' last layers read an earlier one's keys and values."""
    return [] if cache is None else [layer for layer in cache.layers if getattr(layer, "is_initialized", False)]


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().requires_grad_(tensor.requires_grad)


def run_prefix(model: PreTrainedModel, prompt: Tensor | DynamicCache | None, preamble: Tensor) -> Prefix:
    """Run what stands before every row, once.

    Args:
        model: a causal language model.
        prompt: embeddings of virtual tokens, (1, virtual tokens, hidden), or keys and values in their place, or None.
        preamble: token ids, (length,).
    """
    # A copy: the preamble's keys and values are appended to it.
    cache = Prefix(prompt, None, 0).expanded(1) if isinstance(prompt, DynamicCache) else None
    parts = [prompt] if isinstance(prompt, Tensor) else []
    if len(preamble):
        parts.append(model.get_input_embeddings()(preamble.unsqueeze(0)))
    if not parts:
        return Prefix(cache, None, 0)
    if cache is None:
        cache = DynamicCache(config=model.config)  # without the config, sliding-window layers keep too much
    states = model.get_decoder()(inputs_embeds=torch.cat(parts, dim=1), past_key_values=cache, use_cache=True)
    return Prefix(cache, states.last_hidden_state[:, -1], len(preamble))


def row_losses_behind(model: PreTrainedModel, prefix: Prefix, rows: Rows) -> tuple[Tensor, Tensor]:
    """Losses of all labels behind `prefix`, which covers the first `prefix.preamble` tokens of `rows`.

    Returns:
        The loss of each label in nats, (labels,), and the row that it stands in, (labels,).
    """
    # The last token of the longest row predicts nothing, so it runs only where it is alone.
    width = rows.input_ids.shape[1] - prefix.preamble
    ids, labels = rows.input_ids[:, prefix.preamble :][:, : max(1, width - 1)], rows.labels[:, prefix.preamble :]
    cache = prefix.expanded(len(ids))
    cached = {} if cache is None else {"past_key_values": cache, "use_cache": True}
    # Of a model that is split over devices, the last layer stands on another one.
    states = model.get_decoder()(input_ids=ids, **cached).last_hidden_state.to(labels.device)
    # The position before a label predicts it; before the first one that is the prefix's last, where it has one.
    row, position = (labels[:, 1:] != IGNORED).nonzero(as_tuple=True)
    states, wanted = states.flatten(0, 1).index_select(0, row * ids.shape[1] + position), labels[row, position + 1]
    if prefix.last is not None:
        (first,) = (labels[:, 0] != IGNORED).nonzero(as_tuple=True)
        states = torch.cat([states, prefix.last.to(labels.device).expand(len(first), -1)])
        row, wanted = torch.cat([row, first]), torch.cat([wanted, labels[first, 0]])
    return label_losses(model, states, wanted), row
