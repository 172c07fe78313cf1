"""The slice syntax of `datasets`."""

import pytest

from softprompt.data.readers.splits import slices
from softprompt.runtime.errors import InputError


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", [("train", range(25))]),
        ("train[:10%]", [("train", range(2))]),
        ("train[5:8]", [("train", range(5, 8))]),
        ("train[-2:]", [("train", range(23, 25))]),
        ("train[:1]+test", [("train", range(1)), ("test", range(4))]),
    ],
)
def test_slices_are_those_of_datasets(split: str, expected: list[tuple[str, range]]) -> None:
    assert slices({"train": 25, "test": 4}, split) == expected


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("dev", "no split dev; the data set has: train, test"),
        ("train[", "slice syntax"),
        ("train[:1.5%]", "slice syntax"),
        ("train[:150%]", "slice syntax"),
        ("train[:0]", "selects none of the 25 rows"),
    ],
)
def test_a_bad_slice_is_refused(split: str, expected: str) -> None:
    with pytest.raises(InputError) as error:
        slices({"train": 25, "test": 4}, split)
    assert expected in str(error.value)
