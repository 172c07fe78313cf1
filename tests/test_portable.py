"""macOS, as far as Linux can tell: no GNU tool, no make after 3.81 and no bash after 3.2 in what `make` runs there."""

import re
import subprocess
import sys

import pytest

from softprompt.runtime import guard
from softprompt.training import show
from tests.toy import ROOT

SCRIPTS = (ROOT / "Makefile", ROOT / ".github/pipeline.sh", *sorted((ROOT / "experiments").glob("*.sh")))
# What only newer or other programs than macOS's have, each with a line that it is found in.
FOREIGN = {
    r"\bsed\b[^|;]* (-i|-r|--)": "sed -i s/a/b/ file",
    r"\bgrep (-\w+ )*-\w*P": "grep -oP '\\d+' file",
    r"\bdate\b[^|;]* (-d|--)": "date -d yesterday",
    r"\bstat (-c|--)": "stat -c %s file",
    r"\bfind\b[^|;]* -printf": "find . -printf %p",
    r"\breadlink -\w*[fem]|\brealpath\b": "readlink -f file",
    r"\bhead -n ?-|\bsort -\w*V|\bcp -\w*[aT]|\bln -\w*[Tr]": "head -n -1 file",
    r"\b(nproc|timeout|tac|sha256sum|md5sum|setsid|flock)\b": "timeout 5 make",
    r"\b(declare|local) -A|\b(mapfile|readarray|coproc)\b": "declare -A found",
    r"\$\{\w+(,|\^|@)|&>>|\|&": "${name,,}",
    r"\$\((file|let|intcmp|guile) ": "$(file >list,$(names))",
    r"^\w+ *(!|::|:::)=|^(define \w+ *:?=|undefine|private) ?|^[\w./ -]+&:": "NAME != uname",
    r"\.(ONESHELL|RECIPEPREFIX|SHELLSTATUS|EXTRA_PREREQS)\b": ".ONESHELL:",
}


@pytest.mark.parametrize(("pattern", "example"), FOREIGN.items())
def test_what_make_runs_is_there_on_macos(pattern: str, example: str) -> None:
    assert re.search(pattern, example)
    found = [
        f"{path.name}: {line}"
        for path in SCRIPTS
        for line in path.read_text("utf-8").splitlines()
        if re.search(pattern, line)
    ]
    assert found == []


def test_a_recipe_takes_its_programs_from_the_environment() -> None:
    """macOS' make looks elsewhere for what it starts without a shell, as it does where SHELL is /bin/sh."""
    database = subprocess.check_output(["make", "-pn", "undo"], cwd=ROOT, text=True)
    (shell,) = re.findall(r"(?m)^SHELL :?= (.*)$", database)
    assert shell != "/bin/sh"
    assert subprocess.check_output([shell, "-c", "echo runs"], text=True) == "runs\n"


def test_only_linux_is_asked_for_what_only_linux_has(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[None]()
    monkeypatch.setattr(guard.ctypes, "CDLL", asked.append)
    monkeypatch.setattr(sys, "platform", "darwin")
    guard.die_with_parent()
    assert asked == []
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(AttributeError):
        guard.die_with_parent()
    assert asked == [None]


def test_memory_is_in_the_unit_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux counts KiB, macOS bytes."""
    found = {}
    for system in ("linux", "darwin"):
        monkeypatch.setattr(sys, "platform", system)
        found[system] = float(show.peak_memory().split()[0].replace(",", ""))
    assert found["linux"] > 20
    assert found["linux"] == pytest.approx(found["darwin"] * 2**10, abs=2**10)
