"""The order of the training rows."""

import numpy as np

from softprompt.training.order import Shuffled


def epoch(order: Shuffled, number: int) -> list[int]:
    first = number * order.steps_an_epoch + 1
    return [row for step in range(first, first + order.steps_an_epoch) for row in order.of_step(step)]


def test_every_row_once_an_epoch() -> None:
    order = Shuffled(203, 8, seed=1)
    assert order.steps_an_epoch == 26
    for number in range(3):
        assert sorted(epoch(order, number)) == list(range(203))
    assert [len(order.of_step(step)) for step in (1, 25, 26, 27)] == [8, 8, 3, 8]


def test_runs_agree_and_seeds_and_epochs_differ() -> None:
    order = Shuffled(203, 8, seed=1)
    assert epoch(order, 0) == epoch(Shuffled(203, 8, seed=1), 0)
    assert epoch(order, 0) != epoch(Shuffled(203, 8, seed=2), 0)
    assert epoch(order, 0) != epoch(order, 1)


def test_a_step_is_the_same_whatever_came_before_it() -> None:
    """So that a resumed run goes on with the rows that come next."""
    order = Shuffled(203, 8, seed=1)
    right = [order.of_step(step) for step in range(1, 60)]
    assert [order.of_step(step) for step in range(59, 0, -1)] == right[::-1]


def test_rows_are_shuffled() -> None:
    order = np.array(epoch(Shuffled(1000, 8, seed=1), 0))
    assert abs(np.corrcoef(order, range(1000))[0, 1]) < 0.1


def test_fewer_rows_than_a_step_has() -> None:
    order = Shuffled(3, 8, seed=1)
    assert [sorted(order.of_step(step)) for step in (1, 2)] == [[0, 1, 2], [0, 1, 2]]
