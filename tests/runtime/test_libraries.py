"""Libraries are imported with the garbage collector off, which is then as it was."""

import subprocess
import sys

import pytest

from tests.toy import ROOT

CODE = """
import gc
from softprompt.runtime.libraries import load_libraries

if not {collects}:
    gc.disable()
before = gc.get_stats()[2]["collections"]
load_libraries()
assert gc.get_stats()[2]["collections"] == before, "nobody has looked through all objects"
assert gc.isenabled() == {collects}
frozen = gc.get_freeze_count()
assert frozen > 100_000
load_libraries()
assert gc.get_freeze_count() == frozen, "of what a program has made meanwhile nothing is kept for good"
"""


@pytest.mark.parametrize("collects", [True, False])
def test_what_is_imported_is_never_looked_through(collects: bool) -> None:
    subprocess.run([sys.executable, "-c", CODE.format(collects=collects)], cwd=ROOT, check=True)
