"""Splits by a hash of the question: rows of one question stand together, and adding rows moves no other row."""


def split_of(question_id: str, validation: float, test: float) -> str:
    """ "train", "validation" or "test" for a question's hash (16 hexadecimal digits, uniform).

    Test questions lie at the low end and validation ones at the high end, so that a change of one fraction leaves the
    other split as it is.
    """
    position = int(question_id, 16) / 16**16
    if position < test:
        return "test"
    return "validation" if position >= 1 - validation else "train"
