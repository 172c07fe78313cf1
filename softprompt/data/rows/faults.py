"""What is wrong with rows: counted by reason, the first ones named, and refused where they are too many."""

from collections import Counter
from collections.abc import Iterable

import pandas as pd

from softprompt.data.rows.parts import hashes_of
from softprompt.runtime.errors import InputError

NAMED = 5  # rows that are named of each reason
MEANT = "nothing_to_learn"  # its weights say so: the user wants such a row left out


class Survey:
    """What one pass over all rows tells.

    Args:
        parts: the rows, as `cleaned_parts` has them.

    Attributes:
        rows: hashes, fault and split of each row.
        notes: what was left out of conversations -> of how many rows.
    """

    def __init__(self, parts: Iterable[pd.DataFrame]) -> None:
        self._first: dict[str, list[tuple[str, str]]] = {}
        self.notes: Counter[str] = Counter()
        hashes = []
        for rows in parts:
            hashes.append(hashes_of(rows))
            self.notes.update(note for notes in rows["note"] if notes for note in notes.split())
            for fault, place, detail in rows.loc[rows["fault"] != "", ["fault", "place", "detail"]].itertuples(
                index=False
            ):
                named = self._first.setdefault(fault, [])
                if len(named) < NAMED:
                    named.append((place, detail))
        self.rows = pd.concat(hashes, ignore_index=True)
        self.faults = Counter(self.rows["fault"][self.rows["fault"] != ""])

    def first_of(self, reason: str) -> dict[str, list[str]]:
        """The first rows of a reason, for the report; nothing of one that is no fault of a row."""
        return {"first": [place for place, _ in self._first[reason]]} if reason in self._first else {}

    def lines(self) -> list[str]:
        """A line for each reason: how many rows, which are the first, and what is wrong with the first."""
        lines = []
        for reason, count in self.faults.items():
            places = ", ".join(place for place, _ in self._first[reason])
            more = ", …" if count > NAMED else ""
            detail = self._first[reason][0][1]
            lines.append(f"{count:,} {reason.replace('_', ' ')} ({places}{more}){f': {detail}' if detail else ''}")
        return lines

    def check(self, bad_rows: str, max_bad_rows: float) -> None:
        """Refuse bad rows, all at once.

        Args:
            bad_rows: `data.bad_rows`.
            max_bad_rows: `data.max_bad_rows`.

        Raises:
            InputError: if there are any and they are to be refused, or more than that fraction of the rows of a split.
        """
        limit = 0.0 if bad_rows == "refuse" else max_bad_rows
        for split, rows in self.rows.groupby("split", sort=False, observed=True):
            bad = int((~rows["fault"].isin(["", MEANT])).sum())
            if bad <= limit * len(rows):
                continue
            allowed = "data.bad_rows is refuse" if bad_rows == "refuse" else f"data.max_bad_rows is {limit:g}"
            of_split = f" {split}" if self.rows["split"].nunique() > 1 else ""
            raise InputError(
                f"prepare: {bad:,} of {len(rows):,}{of_split} rows can't be used, and {allowed}: "
                f"{'; '.join(self.lines())}. Mend them, map other columns (data.columns), or allow more"
            )
