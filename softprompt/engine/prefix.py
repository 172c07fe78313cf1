"""Answers conditioned on one prefix: what all rows of a batch begin with is run once, and its cache is expanded.

Under causal attention, keys and values at a position depend on nothing after it. Let a batch of rows be x_i = c + y_i,
with a common beginning c (virtual tokens, then a preamble). Then in every layer the keys and values
at c are the same tensors K_c, V_c for all rows, and row i is

    attention(Q(y_i), [K_c ; K(y_i)], [V_c ; V(y_i)])

so c runs once, and `expanded` makes rows of K_c without copying. The preamble ends before the last token of the
shortest row, and where any two rows differ.

Losses are made of one packed sequence in place of a cache (`softprompt.engine.packing`); generation starts here.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

Prompt = Tensor | DynamicCache | None  # embeddings, (1, virtual tokens, hidden), or keys and values in their place


def prompt_lengths(prompt: Prompt) -> tuple[int, int]:
    """How many virtual tokens the prompt puts into the sequence, and how many keys and values before it."""
    if isinstance(prompt, Tensor):
        return prompt.shape[1], 0
    return 0, 0 if prompt is None else prompt.get_seq_length()


@dataclass(frozen=True)
class Rows:
    """A batch of token ids, (rows, length), int64, padded on the right."""

    input_ids: Tensor
    lengths: Tensor  # (rows,): tokens of each row

    @classmethod
    def of(cls, input_ids: Tensor, attention_mask: Tensor | None) -> "Rows":
        """The rows without their padding, wherever it stood, then padded on the right.

        Both arguments are (rows, length); without a mask there is no padding.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        real = attention_mask.bool()
        order = (~real).to(torch.int8).argsort(dim=1, stable=True)
        lengths = real.sum(dim=1)
        longest = int(lengths.max())
        padding = torch.arange(longest, device=lengths.device) >= lengths.unsqueeze(1)
        return cls(input_ids.gather(1, order)[:, :longest].masked_fill(padding, 0), lengths)

    @property
    def width(self) -> int:
        """Tokens of the longest row."""
        return self.input_ids.shape[1]

    def select(self, chosen: Tensor) -> "Rows":
        """The rows of the indices `chosen`, (n,), no wider than they need."""
        lengths = self.lengths[chosen]
        return Rows(self.input_ids[chosen, : int(lengths.max())], lengths)

    def preamble_length(self) -> int:
        """Tokens that all rows begin with and after which each row has a token left."""
        ids = self.input_ids[:, : max(0, int(self.lengths.min()) - 1)]
        return int((ids == ids[:1]).all(dim=0).cumprod(dim=0).sum())


def expanded(prefix: DynamicCache | None, rows: int) -> DynamicCache | None:
    """A prefix's cache of batch 1 for `rows` rows; nothing is copied, and what they append stays out of the prefix."""
    if prefix is None:
        return None
    cache = copy.copy(prefix)
    cache.layers = [copy.copy(layer) for layer in prefix.layers]
    layers: list[Any] = cache.layers
    for layer in layers:
        # Some architectures' last layers hold nothing: they read an earlier one's keys and values.
        if getattr(layer, "is_initialized", False):
            layer.keys, layer.values = (of.expand(rows, -1, -1, -1) for of in (layer.keys, layer.values))
    return cache


def run_prefix(model: PreTrainedModel, prompt: Prompt, preamble: Tensor) -> DynamicCache | None:
    """Run what stands before every row, once.

    Args:
        model: a causal language model.
        prompt: embeddings of virtual tokens, (1, virtual tokens, hidden), or keys and values in their place, or None.
        preamble: token ids, (length,).

    Returns:
        Keys and values of each layer, (1, heads, length, head size); None where nothing stands there.
    """
    # A copy: the preamble's keys and values are appended to it.
    cache = expanded(prompt, 1) if isinstance(prompt, DynamicCache) else None
    parts = [prompt] if isinstance(prompt, Tensor) else []
    if len(preamble):
        parts.append(model.get_input_embeddings()(preamble.unsqueeze(0)))
    if parts:
        if cache is None:
            cache = DynamicCache(config=model.config)  # without the config, sliding-window layers keep too much
        model.get_decoder()(inputs_embeds=torch.cat(parts, dim=1), past_key_values=cache, use_cache=True)
    return cache
