"""The order of the training rows."""

import numpy as np
import pytest

from softprompt.runtime.errors import InputError
from softprompt.training.order import FilledUp, LengthGroupedSampler, shares_of_a_step

LENGTHS = np.random.default_rng(0).integers(10, 200, size=203)


def padding(order: list[int], batch: int) -> float:
    """Share of a padded batch that is padding."""
    batches = [LENGTHS[order[start : start + batch]] for start in range(0, len(order), batch)]
    return 1 - LENGTHS.sum() / sum(len(rows) * rows.max() for rows in batches)


def test_every_row_once() -> None:
    sampler = LengthGroupedSampler(LENGTHS, 8, seed=1)
    assert len(sampler) == 203
    assert sorted(sampler) == list(range(203))


def test_runs_agree_and_seeds_and_epochs_differ() -> None:
    first, second = LengthGroupedSampler(LENGTHS, 8, seed=1), LengthGroupedSampler(LENGTHS, 8, seed=1)
    assert list(first) == list(second)
    assert list(first) != list(LengthGroupedSampler(LENGTHS, 8, seed=2))
    second.set_epoch(1)
    assert list(first) != list(second)


def test_little_of_a_batch_is_padding() -> None:
    shuffled = np.random.default_rng(1).permutation(203).tolist()
    assert padding(shuffled, 8) > 0.3
    assert padding(list(LengthGroupedSampler(LENGTHS, 8, seed=1)), 8) < 0.15


def test_long_batches_stand_anywhere() -> None:
    """Sorting all rows would train on short answers first."""
    order = list(LengthGroupedSampler(LENGTHS, 8, seed=1))
    means = [LENGTHS[order[start : start + 8]].mean() for start in range(0, 200, 8)]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.5


def test_fewer_rows_than_a_batch() -> None:
    assert sorted(LengthGroupedSampler([5, 3, 4], 8, seed=1)) == [0, 1, 2]


def test_several_processes_have_equal_shares_of_the_last_step_too() -> None:
    order = list(LengthGroupedSampler(LENGTHS, 8, seed=1, multiple=4))
    assert order[:203] == list(LengthGroupedSampler(LENGTHS, 8, seed=1))
    assert order[203:] == [203], "one that is no row"
    rows = FilledUp([{"input_ids": [1], "labels": [1]}] * 203, {"input_ids": [5, 6], "labels": [-100, 6]})
    assert len(rows) == 203
    assert rows[203] == {"input_ids": [5, 6], "labels": [-100, -100]}


@pytest.mark.parametrize(
    ("batch_size", "accumulation_steps", "processes", "share"),
    [(8, 2, 1, (8, 2)), (8, 2, 2, (8, 1)), (8, 2, 8, (2, 1)), (8, 3, 2, (6, 2)), (3, 4, 3, (2, 2)), (5, 3, 3, (5, 1))],
)
def test_shares_of_a_step(batch_size: int, accumulation_steps: int, processes: int, share: tuple[int, int]) -> None:
    assert shares_of_a_step(batch_size, accumulation_steps, processes) == share


def test_rows_that_can_not_be_shared_evenly_are_refused() -> None:
    with pytest.raises(InputError, match=r"can't share the 16 rows of a step evenly.*\(now 8 x 2\).*multiple of 3"):
        shares_of_a_step(8, 2, 3)
