"""The slice syntax of Hugging Face `datasets` (`train[:10%]`, `train[10:20]+train[-5:]`)."""

import re
from collections.abc import Mapping

from softprompt.runtime.errors import InputError

SPLIT = "train"  # files that name no split are "train", as in `datasets`


def slices(sizes: Mapping[str, int], split: str) -> list[tuple[str, range]]:
    """The rows that `split` names: parts of splits, in order.

    Args:
        sizes: rows of each split that the data set has.
        split: an expression of `datasets`.

    Raises:
        InputError: if the syntax is wrong, a split does not exist, or nothing is selected.
    """
    from datasets import ReadInstruction

    names = {match[1] for part in split.split("+") if (match := re.match(r"\s*([\w-]+)", part))}
    if unknown := sorted(names - set(sizes)):
        raise InputError(f"data.split: {split!r}: no split {', '.join(unknown)}; the data set has: {', '.join(sizes)}")
    try:
        parts = ReadInstruction.from_spec(split).to_absolute(dict(sizes))
    except (ValueError, AssertionError) as error:
        raise InputError(
            f"data.split: {split!r} is not in the slice syntax of `datasets` (such as train, train[:10%] or "
            f"train[100:200]): {' '.join(str(error).split())}"
        ) from None
    chosen = [(part.splitname, range(part.from_, part.to)) for part in parts]
    if not any(part for _, part in chosen):
        raise InputError(f"data.split: {split!r} selects none of the {sum(sizes[name] for name in names)} rows")
    return chosen
