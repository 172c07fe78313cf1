"""The same bytes in another clone, as CI has it: shallow, an empty cache, another path, another machine's habits."""

import json
from pathlib import Path

import pytest

from tests.clones import call, cloned, stages_run
from tests.toy import STAGES

# Python's own lists of files, of os.walk, glob and pathlib too, in the opposite order.
OTHER_ORDER = """
import os

listdir, scandir = os.listdir, os.scandir


class Reversed:
    def __init__(self, path="."):
        with scandir(path) as entries:
            self.entries = iter(sorted(entries, key=lambda entry: entry.name, reverse=True))

    def __iter__(self):
        return self.entries

    def __next__(self):
        return next(self.entries)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def close(self):
        pass


os.listdir = lambda path=".": sorted(listdir(path), reverse=True)
os.scandir = Reversed
"""


def test_ci_without_a_cache_gives_the_same_commit_on_another_machine(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data, which are in no package here, come from the remote; it has no output of a stage.

    DVC hashed the data on the first machine: here it finds those bytes.
    """
    other = cloned(clone, tmp_path / "another clone", "--depth=1")
    for folder in (clone, other):
        call(folder, f"make remote URL={tmp_path}/remote")
    call(clone, "dvc push data/local/general.txt data/local/rows.json")
    (tmp_path / "order").mkdir()
    (tmp_path / "order/sitecustomize.py").write_text(OTHER_ORDER, encoding="utf-8")
    (tmp_path / "home").mkdir()
    habits = {
        "HOME": str(tmp_path / "home"),
        "LC_ALL": "C",  # and as ASCII, without Python's change of it to UTF-8
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONUTF8": "0",
        "TZ": "Asia/Kathmandu",
        "USER": "another",
        "LOGNAME": "another",
        "PYTHONHASHSEED": "7",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
    }
    for name, value in habits.items():
        monkeypatch.setenv(name, value)
    in_other_order = f"PYTHONPATH='{tmp_path}/order'"
    code = 'import json, os; print(json.dumps([os.listdir(), next(os.walk("."))[2]]))'
    listed = call(other, f"{in_other_order} python -c '{code}'")
    for names in json.loads(listed):
        assert names == sorted(names, reverse=True)
    output = call(other, f"{in_other_order} make ci")
    assert sorted(stages_run(output)) == sorted(STAGES)
    assert "HEAD: the same bytes" in output
    assert "warning" not in output.replace("warning: train.init_text", "")
    assert call(other, "git status --porcelain") == " M .dvc/config\n", "nothing changed but the remote that make wrote"
