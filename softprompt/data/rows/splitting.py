"""Splits by a hash of the question: rows of one question stand together, and adding rows moves no other row."""

import numpy as np


def splits_of(question_ids: np.ndarray, validation: float, test: float) -> np.ndarray:
    """ "train", "validation" or "test" for each question's hash (uint64, uniform).

    Test questions lie at the low end and validation ones at the high end, so that a change of one fraction leaves the
    other split as it is.
    """
    position = question_ids / 2.0**64
    return np.select([position < test, position >= 1 - validation], ["test", "validation"], "train")
