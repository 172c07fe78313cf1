"""What a scheme is asked for, and what it answers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from softprompt.runtime.errors import InputError

Select = Callable[[list[Path]], list[Path]]
RowsOf = Callable[[str], int | None]  # how many rows a file has, without fetching it; None: that can't be told
# From names of files, README.md (None: there is none) and how to count rows (None: not possible) to the names that are
# needed, and to the number of rows of those whose rows are not wanted.
WantedFiles = Callable[[list[str], Path | None, RowsOf | None], tuple[list[str], dict[str, int]]]


@dataclass(frozen=True)
class Request:
    """A source that is to be fetched.

    Attributes:
        section: "model", "data" or "general", as in params.yaml.
        key: the parameter that names the source, such as "data.source".
        scheme: what stands before "://".
        reference: what stands behind it.
        revision: commit, tag or branch; None for the default branch.
        select: keeps the files that are needed, or raises InputError.
        folder: an empty folder for downloads, gone afterwards.
        wanted: which files of a whole repository of data hold the wanted rows; None: all are wanted.
    """

    section: str
    key: str
    scheme: str
    reference: str
    revision: str | None
    select: Select
    folder: Path
    wanted: "WantedFiles | None" = None

    @property
    def kind(self) -> str:
        """What hubs call such a repository."""
        return "model" if self.section == "model" else "dataset"

    @property
    def source(self) -> str:
        """As in params.yaml."""
        return f"{self.scheme}://{self.reference}"


@dataclass(frozen=True)
class Files:
    """Files that were found.

    Attributes:
        files: where they lie.
        base: the folder that their relative paths start at: two files may have one name.
        whole: whether they are a folder's or a repository's, and not named one by one: their names tell the splits.
        unwanted: those of the files none of whose rows is wanted: they are counted, but not checked.
        repository: OWNER/NAME of a hub's repository; None for every other source.
        elsewhere: files there that were not fetched, since none of their rows is wanted -> how many rows they have.
        record: for source.json: what was asked for, and what it was; of a scheme, what a hub made of the revision.
    """

    files: list[Path]
    base: Path
    whole: bool = False
    unwanted: frozenset[Path] = frozenset()
    repository: str | None = None
    elsewhere: dict[str, int] = field(default_factory=dict)
    record: dict[str, str | None] = field(default_factory=dict)


def fixed_part(pattern: str) -> PurePosixPath:
    """The folders of a path or glob that have no wildcard; of a path without any, the folder of the file."""
    parts = PurePosixPath(pattern).parts
    wild = (number for number, part in enumerate(parts) if any(character in part for character in "*?["))
    return PurePosixPath(*parts[: next(wild, len(parts) - 1)])


def relative_target(name: str, base: PurePosixPath) -> PurePosixPath:
    """Where the file `name` of a source goes, below the folder that it is fetched to.

    Raises:
        InputError: if that is elsewhere.
    """
    path = PurePosixPath(name)
    target = path.relative_to(base) if path.is_relative_to(base) else path
    if target.is_absolute() or ".." in target.parts:
        raise InputError(f"{name} is no path of a file within the source")
    return target
