"""The commands of README and docs/, run as they are written, page by page, in copies of a clone after `make repro`.

Those that need a hub are in tests/test_reference.py and tests/pipeline/test_remote.py.
"""

import json
import shutil
from pathlib import Path

import pytest

from tests.clones import blocks, call, documents
from tests.toy import ROOT

# What can't be run from a test: the tests themselves, and what a shell does for its user.
NOT_HERE = ("make test", "source .venv/bin/activate")
PAGES = [path.relative_to(ROOT).as_posix() for path in documents()]


def runnable(page: str) -> list[str]:
    """The blocks of a page that need neither hub nor GPU."""
    found = []
    for block in blocks((ROOT / page).read_text(encoding="utf-8")):
        if not block.startswith("# needs a "):
            found.append("\n".join(line for line in block.splitlines() if line not in NOT_HERE))
    return [block for block in found if block]


@pytest.fixture(scope="module")
def cache(finished_clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DVC's cache for all pages: what one of them has run, the others take from there."""
    return shutil.copytree(finished_clone / ".dvc/cache", tmp_path_factory.mktemp("cache") / "cache")


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page.startswith("docs/") else [])
        for page in PAGES
        if runnable(page)
    ],
)
def test_a_page(page: str, finished_clone: Path, cache: Path, tmp_path: Path) -> None:
    apart = shutil.ignore_patterns("cache")
    folder = shutil.copytree(finished_clone, tmp_path / "clone", symlinks=True, ignore=apart)
    call(folder, f"dvc config --local cache.dir {cache}")
    rows = [{"instruction": f"What is {n}?", "answer": f"It is {n}, a number."} for n in range(300)]
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    (folder / "data/local/rows.jsonl").write_text(lines, encoding="utf-8")
    for block in runnable(page):
        output = call(folder, f"set -e\n{block}")
        assert "Traceback" not in output
