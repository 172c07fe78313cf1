"""Tables in Markdown that are readable in a terminal as well."""

from collections.abc import Sequence

from tabulate import tabulate

from softprompt.runtime.errors import one_line


def table(lines: Sequence[Sequence[str]], texts: int) -> str:
    """`lines`, the first of them the head; the first `texts` columns are aligned left, the others, numbers, right.

    What would end a cell doesn't: "|" is escaped, and line breaks become blanks. A terminal obeys nothing in one.
    """
    head, *rows = ([one_line(cell).replace("|", "\\|") for cell in line] for line in lines)
    sides = ["left" if column < texts else "right" for column in range(len(head))]
    return tabulate(rows, head, tablefmt="pipe", colalign=sides, disable_numparse=True)
