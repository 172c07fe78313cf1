"""Splits by a hash of the question: rows of one question stand together, and adding rows moves no other row."""

import numpy as np


def splits_of(question_ids: np.ndarray, validation: float, test: float) -> np.ndarray:
    """ "train", "validation" or "test" for each question's hash (uint64, uniform).

    Test questions lie at the low end and validation ones at the high end, so that a change of one fraction leaves the
    other split as it is.
    """
    position = question_ids / 2.0**64
    return np.select([position < test, position >= 1 - validation], ["test", "validation"], "train")


def leaks(question_ids: np.ndarray, splits: np.ndarray) -> np.ndarray:
    """Which rows ask what a row of a later split asks too: of train those in validation or test, of validation those in
    test. None where all splits were made by `splits_of`.

    Args:
        question_ids: of each row.
        splits: of each row; "" for one that is in none.
    """
    leaking = np.zeros(len(splits), dtype=bool)
    for split, later in (("train", ("validation", "test")), ("validation", ("test",))):
        leaking |= (splits == split) & np.isin(question_ids, question_ids[np.isin(splits, later)])
    return leaking
