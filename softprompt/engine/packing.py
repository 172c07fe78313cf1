"""Rows of tokens as one packed sequence without padding: what all rows begin with once, then each row's own tokens.

    [ preamble | row 1 | row 2 | … | row B ]

Causal attention makes keys and values at a position depend on nothing after it. So what all rows begin with, the prompt
in front of it included, has the same keys and values in all of them and is run once, and the gradient by them is the
sum over the rows: both forward and backward are exact. The preamble ends before any label and before the last token of
the shortest row. A row's last token predicts nothing, so it is not run.

All of this is worked out on the host, before anything goes to a device.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset
from torch import Tensor

from softprompt.data.tokens import IGNORED, Row


@dataclass(frozen=True)
class Packed:
    """A batch of rows as one sequence.

    Attributes:
        tokens: ids, (length,): the preamble's, then those of each row that are run.
        positions: of the tokens, (length,), as if nothing stood in front of the preamble.
        preamble: how many tokens all rows share.
        lengths: how many of its own tokens each row runs, the longest first; 0 or more.
        labels: token ids that are predicted, (labels,).
        predictors: index in `tokens` of what predicts each label; -1 where that is before them.
        row: the row of each label, (labels,), as they were given.
    """

    tokens: Tensor
    positions: Tensor
    preamble: int
    lengths: tuple[int, ...]
    labels: Tensor
    predictors: Tensor
    row: Tensor

    def to(self, device: torch.device) -> "Packed":
        """The same on a device."""
        moved = {
            name: getattr(self, name).to(device, non_blocking=True)
            for name in ("tokens", "positions", "labels", "predictors", "row")
        }
        return replace(self, **moved)

    def behind_nothing(self) -> "Packed":
        """The same without the labels that only something in front of the tokens could predict."""
        kept = self.predictors >= 0
        return replace(self, labels=self.labels[kept], predictors=self.predictors[kept], row=self.row[kept])


def pack(rows: Sequence[Row], multiple: int = 1) -> Packed:
    """One or more rows of at least one token each as one sequence, the longest first: attention pads them in groups.

    The preamble is cut to a `multiple`: on a GPU, where what is left over costs little, for few shapes.
    """
    order = sorted(range(len(rows)), key=lambda row: -len(rows[row]["input_ids"]))
    ids = [np.asarray(rows[row]["input_ids"], dtype=np.int64) for row in order]
    labels = [np.asarray(rows[row]["labels"], dtype=np.int64) for row in order]
    preamble = _preamble(ids, labels) // multiple * multiple
    if multiple > 1 and preamble and max(map(len, ids)) == preamble + 1:
        preamble -= multiple  # or no row would have a token of its own
    lengths = np.array([max(0, len(row) - preamble - 1) for row in ids])
    if preamble + lengths.sum() == 0:  # rows of one token: something has to run
        lengths[0] = 1
    starts = preamble + np.cumsum(lengths) - lengths
    predictors, of_row = [], []
    for row, (number, wanted) in enumerate(zip(order, labels, strict=True)):
        places = np.flatnonzero(wanted != IGNORED) - 1
        predictors.append(np.where(places < preamble, places, places - preamble + starts[row]))
        of_row.append(np.full(len(places), number))
    wanted = np.concatenate([row[row != IGNORED] for row in labels])
    own = [row[preamble : preamble + length] for row, length in zip(ids, lengths, strict=True)]
    positions = [np.arange(preamble), *(np.arange(preamble, preamble + length) for length in lengths)]
    return Packed(
        tokens=torch.from_numpy(np.concatenate([ids[0][:preamble], *own])),
        positions=torch.from_numpy(np.concatenate(positions)),
        preamble=preamble,
        lengths=tuple(lengths.tolist()),
        labels=torch.from_numpy(wanted),
        predictors=torch.from_numpy(np.concatenate(predictors)),
        row=torch.from_numpy(np.concatenate(of_row)),
    )


def _preamble(ids: list[np.ndarray], labels: list[np.ndarray]) -> int:
    """Tokens that all rows begin with, none of them a label, and after which each row has a token left."""
    limit = max(0, min(map(len, ids)) - 1)
    same = np.stack([row[:limit] for row in ids]) == ids[0][:limit]
    ignored = np.stack([row[:limit] for row in labels]) == IGNORED
    return int((same & ignored).all(axis=0).cumprod().sum())


def unpadded(input_ids: Tensor, attention_mask: Tensor | None, labels: Tensor) -> list[Row]:
    """The rows of a padded batch, (rows, length) each, without their padding, wherever it stands."""
    real = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    batch = zip(input_ids.cpu().numpy(), real.bool().cpu().numpy(), labels.cpu().numpy(), strict=True)
    return [{"input_ids": ids[kept], "labels": wanted[kept]} for ids, kept, wanted in batch]


def row_lengths(rows: Dataset) -> np.ndarray:
    """Tokens of each row, read from Arrow's offsets: the tokens themselves are not touched."""
    return pc.list_value_length(rows.with_format("arrow")[:]["input_ids"]).to_numpy()
