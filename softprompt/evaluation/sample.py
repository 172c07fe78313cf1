"""Which rows are answered: a sample by a hash, so that it doesn't depend on their order."""

from collections.abc import Sequence

from softprompt.data.rows import short_hash
from softprompt.runtime.errors import InputError


def sampled_rows(example_ids: Sequence[str], rows: int | None, seed: int) -> list[int]:
    """Places, ascending, of the `rows` examples whose hash with `seed` is lowest; of all where `rows` is None.

    Raises:
        InputError: if there are fewer.
    """
    if rows is not None and rows > len(example_ids):
        raise InputError(
            f"evaluate.rows: {rows} is more than the {len(example_ids)} rows of the test split; allowed: at most "
            f"{len(example_ids)}, or null for all"
        )
    ranked = sorted(range(len(example_ids)), key=lambda place: short_hash(f"{seed} {example_ids[place]}"))
    return sorted(ranked[:rows])
