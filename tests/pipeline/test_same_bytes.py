"""The same bytes in another clone: an empty cache, another path, another machine's habits."""

from pathlib import Path

import pytest

from tests.clones import call, toy_clone

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


def test_another_clone_gives_the_same_commit(
    finished_clone: Path, toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        "PYTHONPATH": str(tmp_path / "order"),
    }
    for name, value in habits.items():
        monkeypatch.setenv(name, value)
    other = toy_clone(tmp_path / "another clone", toy_model, **{"train.max_steps": 6})
    listed = call(other, "python -c 'import os; print(os.listdir(), *next(os.walk(\".\"))[2])'")
    assert listed.index("stages") < listed.index("params.yaml") < listed.index("dvc.lock"), "the order is another one"
    trees = [call(folder, "git rev-parse HEAD^{tree}") for folder in (finished_clone, other)]
    assert trees[0] == trees[1], call(other, f"git fetch -q '{finished_clone}' && git diff FETCH_HEAD HEAD")
