"""A batch as one sequence: what it holds, and who sees whom in it, on a CPU and on a GPU."""

from collections.abc import Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from softprompt.engine.attention import packed_attention
from softprompt.engine.layout import Group, Layout, alike
from softprompt.engine.packing import pack, unpadded
from tests.engine.batches import PREAMBLES, SHORT, UNLABELLED, Row, padded, row

HEADS, KEY_HEADS, SIZE = 4, 2, 16


def packed(*rows: Row) -> Any:
    return pack([{"input_ids": ids, "labels": labels} for ids, labels in rows])


@pytest.mark.parametrize(
    ("rows", "length"),
    [
        *PREAMBLES,
        ([([7, 8, 9, 3], UNLABELLED), ([7, 8, 9, 4], [-100, -100, 9, -100])], 2),  # not over a label of any row
    ],
)
def test_where_the_preamble_ends(rows: list[Row], length: int) -> None:
    assert packed(*rows).preamble == length


def test_what_the_sequence_holds() -> None:
    first, second = ([7, 8, 1, 2, 3], [-100, -100, 1, -100, 3]), ([7, 8, 4, 5], [-100, -100, -100, 5])
    batch = packed(first, second)
    assert batch.tokens.tolist() == [7, 8, 1, 2, 4]
    assert batch.positions.tolist() == [0, 1, 2, 3, 2]
    assert batch.lengths == (2, 1)
    assert (batch.labels.tolist(), batch.row.tolist()) == ([1, 3, 5], [0, 0, 1])
    assert batch.predictors.tolist() == [1, 3, 4], "the preamble's last token predicts the first one after it"


def test_what_only_virtual_tokens_predict() -> None:
    batch = packed(([7], [7]), ([8, 9], [8, 9]))
    assert (batch.tokens.tolist(), batch.lengths) == ([8], (1, 0)), "the longest row is the first"
    assert (batch.predictors.tolist(), batch.row.tolist()) == ([-1, 0, -1], [1, 1, 0])
    kept = batch.behind_nothing()
    assert (kept.labels.tolist(), kept.predictors.tolist(), kept.row.tolist()) == ([9], [0], [1])
    assert packed(([7], [7])).tokens.tolist() == [7], "something has to run"


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_left_out_wherever_it_stands(side: str) -> None:
    rows = [row(9, 3, SHORT), row(4, 0, SHORT), row(1, 1)]
    found = [(of["input_ids"].tolist(), of["labels"].tolist()) for of in unpadded(**padded(rows, side))]
    assert found == rows


LAYOUTS = {
    "short": (3, (5, 4, 2, 1, 0), 0),
    "no prefix": (0, (4, 3), 0),
    "one row": (5, (6,), 0),
    "several groups": (20, (150, 110, 60, 40, 3), 11),
    "filled up": (20, (100, 70), 66),
}


@pytest.fixture(params=[None, 7], ids=["all", "window"])
def window(request: pytest.FixtureRequest) -> Iterator[int | None]:
    return request.param


@cache
def dense(prefix: int, lengths: tuple[int, ...], ahead: int, window: int | None) -> Tensor:
    """Who sees whom, said as plainly as it can be: (positions, ahead + positions), without filler."""
    rows = [-1] * prefix + [number for number, length in enumerate(lengths) for _ in range(length)]
    places = [*range(prefix), *(prefix + at for length in lengths for at in range(length))]
    keys = [(-1, at - ahead) for at in range(ahead)] + list(zip(rows, places, strict=True))
    seen = torch.zeros(len(rows), len(keys), dtype=torch.bool)
    for query, (row_of_query, place) in enumerate(zip(rows, places, strict=True)):
        for key, (row_of_key, of_key) in enumerate(keys):
            same = row_of_key in (-1, row_of_query)
            seen[query, key] = same and of_key <= place and (window is None or place - of_key < window)
    return seen


@pytest.mark.parametrize("ahead", [0, 4])
@pytest.mark.parametrize("softcap", [None, 2.0], ids=["free", "capped"])
@pytest.mark.parametrize("sinks", [False, True], ids=["no sinks", "sinks"])
@pytest.mark.parametrize(("prefix", "lengths", "filler"), LAYOUTS.values(), ids=LAYOUTS)
def test_rows_in_groups_and_rows_of_one_width_are_plain_attention(
    prefix: int,
    lengths: tuple[int, ...],
    filler: int,
    ahead: int,
    *,
    window: int | None,
    softcap: float | None,
    sinks: bool,
) -> None:
    """As on a CPU, and as on a GPU, where there is filler behind the rows."""
    generator = torch.Generator().manual_seed(0)
    length = prefix + sum(lengths)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    query = drawn(1, HEADS, length, SIZE)
    key, value, trained_key, trained_value = (drawn(1, KEY_HEADS, n, SIZE) for n in (length, length, ahead, ahead))
    sink = drawn(HEADS) if sinks else None
    keys, values = torch.cat([trained_key, key], 2), torch.cat([trained_value, value], 2)
    scores = query @ keys.repeat_interleave(2, 1).transpose(2, 3) * 0.3
    scores = scores if softcap is None else softcap * (scores / softcap).tanh()
    scores = scores.masked_fill(~dense(prefix, lengths, ahead, window), -torch.inf)
    if sink is not None:
        scores = torch.cat([scores, sink.view(1, -1, 1, 1).expand(-1, -1, length, 1)], 3)
    right = (scores.softmax(3)[..., : keys.shape[2]] @ values.repeat_interleave(2, 1)).transpose(1, 2)

    trained = None
    if ahead:
        trained = DynamicCache()
        trained.update(trained_key, trained_value, 0)
    settings = {"scaling": 0.3, "sliding_window": window, "softcap": softcap, "s_aux": sink}
    filled = [torch.nn.functional.pad(of, (0, 0, 0, filler)) for of in (query, key, value)]
    for tensors, groups in (
        ([query, key, value], alike(lengths)),
        (filled, [Group.of(lengths, max(lengths) + 5, filler)]),
    ):
        layout = Layout(prefix, groups, trained)
        layout.windows = {}
        found, _ = packed_attention(SimpleNamespace(layer_idx=0), *tensors, None, layout=layout, **settings)
        torch.testing.assert_close(found[:, :length], right)
        assert found.isfinite().all()
        assert layout.windows == {0: window}
