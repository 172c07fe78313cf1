"""`make repair` removes what a stage makes again, and never what is a user's; with the real DVC and real hard links."""

import hashlib
import json
import os
import shlex
import subprocess
import time
from pathlib import Path

import pytest

from tests.clones import call, environment
from tests.toy import ROOT

REPAIR = f"PYTHONPATH={shlex.quote(str(ROOT))} python -m softprompt.maintenance.repair"


def object_of(folder: Path, content: bytes) -> Path:
    digest = hashlib.md5(content).hexdigest()
    return folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]


def append(path: Path) -> bytes:
    """An edit in place, as root's are, whom a read-only bit does not stop."""
    path.chmod(0o644)
    with path.open("ab") as file:
        file.write(b"edited\n")
    path.chmod(0o444)
    return path.read_bytes()


def test_the_only_copy_of_a_users_file_is_left_and_named_with_both_hashes(repository: Path) -> None:
    promised = (repository / "rows.json").read_bytes()
    edited = append(repository / "rows.json")
    stored = object_of(repository, promised)
    assert stored.read_bytes() == edited, "a hard link: the cache is damaged with it"
    # A stage's output has the same promised bytes: the user's file decides.
    said = call(repository, REPAIR, ok=False)
    assert stored.read_bytes() == (repository / "rows.json").read_bytes() == edited
    line = next(line for line in said.splitlines() if line.startswith("error: rows.json: damaged in DVC's cache"))
    assert hashlib.md5(promised).hexdigest() in line
    assert hashlib.md5(edited).hexdigest() in line
    assert "Traceback" not in said

    # What it advises keeps them, and the promised ones can be had again.
    call(repository, "dvc add rows.json")
    assert hashlib.md5(edited).hexdigest() in (repository / "rows.json.dvc").read_text(encoding="utf-8")
    call(repository, "dvc checkout --force")
    assert (repository / "rows.json").read_bytes() == edited
    assert "rows.json (of another commit): damaged" in call(repository, REPAIR, ok=False)
    stored.rename(repository / "aside")
    assert "nothing is damaged" in call(repository, REPAIR)
    assert (repository / "rows.json").read_bytes() == edited


def test_a_member_of_a_users_folder_is_the_users(repository: Path) -> None:
    member = repository / "more/a"
    stored = object_of(repository, member.read_bytes())
    edited = append(member)
    assert "error: more/a: damaged in DVC's cache" in call(repository, REPAIR, ok=False)
    assert stored.read_bytes() == member.read_bytes() == edited


def test_while_the_list_of_a_users_folder_is_damaged_nothing_is_removed(repository: Path) -> None:
    """What belongs to the folder can't be told then."""
    stored = object_of(repository, b"first\n")
    append(stored)
    listing = next((repository / ".dvc/cache/files/md5").glob("*/*.dir"))
    for path in (repository / ".dvc/cache/files/md5").glob("*/*.dir"):
        if json.loads(path.read_text(encoding="utf-8"))[0]["relpath"] == "a":
            listing = path
    append(listing)
    call(repository, "git rm -q --cached rows.json.dvc && rm rows.json.dvc && git commit -qam forgotten")
    said = call(repository, REPAIR, ok=False)
    assert "error: more: damaged in DVC's cache" in said
    assert listing.exists()
    assert stored.exists()


def test_a_file_that_only_git_or_a_conflict_remembers_is_the_users(repository: Path) -> None:
    """Even where a stage wrote the same bytes once."""
    places = ("branch", "stash", "reflog", "index", "conflict", "experiment")
    for place in places:
        (repository / f"{place}.txt").write_text(f"{place}\n", encoding="utf-8")
    call(repository, f"dvc add -q {' '.join(f'{place}.txt' for place in places)} && git rm -q --cached *.txt.dvc")
    added = "git add {0}.txt.dvc && git commit -qm {0}"
    back = "git reset -q --hard HEAD^"
    call(repository, f"{added.format('experiment')} && git update-ref refs/exps/12/345/name HEAD && {back}")
    call(repository, "git reflog expire --expire=now --all")
    call(repository, f"git switch -qc aside && {added.format('branch')} && git switch -q main")
    call(repository, f"git add stash.txt.dvc && git stash push -q && {added.format('reflog')} && {back}")
    call(repository, "git add index.txt.dvc && rm index.txt.dvc && sed -i '1i <<<<<<< ours' conflict.txt.dvc")
    run = repository / ".dvc/cache/runs/12/34/56"
    run.parent.mkdir(parents=True)
    hashes = [hashlib.md5(f"{place}\n".encode()).hexdigest() for place in places]
    run.write_text("".join(["outs:\n", *(f"- md5: {digest}\n" for digest in hashes)]), encoding="utf-8")
    stored = [object_of(repository, f"{place}\n".encode()) for place in places]
    edited = [append(path) for path in stored]
    call(repository, "rm *.txt")
    said = call(repository, REPAIR, ok=False)
    for place in places:
        where = "" if place == "conflict" else " (of another commit)"
        assert f"error: {place}.txt{where}: damaged" in said
    assert [path.read_bytes() for path in stored] == edited


def test_an_object_of_a_stage_is_removed_and_one_of_nobody_is_named(repository: Path) -> None:
    (repository / "rows.json").unlink()
    (repository / "rows.json").write_text("second\n", encoding="utf-8")
    call(repository, "dvc add -q rows.json && sed -i 's/cp rows.json out/tac rows.json > out/' dvc.yaml")
    (repository / "rows.json").unlink()
    (repository / "rows.json").write_text("third\nsecond\n", encoding="utf-8")
    call(repository, "dvc add -q rows.json && dvc repro -q")
    made = object_of(repository, b"second\nthird\n")
    append(made)
    said = call(repository, REPAIR)
    assert f"removed {made}" in said
    assert not made.exists()
    call(repository, "rm -r out && dvc repro")
    assert made.read_bytes() == (repository / "out/copy").read_bytes() == b"second\nthird\n"
    nobodys = object_of(repository, b"a fourth\n")
    nobodys.parent.mkdir(exist_ok=True)
    nobodys.write_bytes(b"of somebody\n")
    beside = nobodys.with_name("a file that another DVC is about to name.tmp")
    beside.write_bytes(b"half")
    assert "error: an object that no .dvc file, stage or commit here names: damaged" in call(
        repository, REPAIR, ok=False
    )
    assert nobodys.read_bytes() == b"of somebody\n"
    assert beside.exists()


def test_an_edit_of_a_copy_is_no_damage(repository: Path) -> None:
    call(repository, "dvc config cache.type reflink,copy && dvc checkout -q --relink")
    (repository / "rows.json").write_bytes(edited := (repository / "rows.json").read_bytes() + b"edited\n")
    assert "nothing is damaged" in call(repository, REPAIR)
    assert (repository / "rows.json").read_bytes() == edited
    call(repository, "dvc add -q rows.json && dvc checkout -q --force")
    assert (repository / "rows.json").read_bytes() == edited


def test_relinking_leaves_an_edit_through_a_hard_link(repository: Path) -> None:
    edited = append(repository / "rows.json")
    call(repository, "dvc config cache.type reflink,copy")
    call(repository, "dvc checkout --relink < /dev/null", ok=False)
    assert (repository / "rows.json").read_bytes() == edited


@pytest.mark.parametrize("command", ["dvc repro", "python -m dvc repro", "python -P {dvc} --cd repository repro"])
def test_beside_a_running_dvc_it_refuses(repository: Path, command: str) -> None:
    """However it was started; DVC itself gives its lock back while a stage runs. The stage's program is any."""
    import dvc

    text = (repository / "dvc.yaml").read_text(encoding="utf-8").replace("mkdir -p out", "touch begun && sleep 60")
    (repository / "dvc.yaml").write_text(text, encoding="utf-8")
    stored = object_of(repository, (repository / "rows.json").read_bytes())
    append(stored)
    words = command.format(dvc=Path(dvc.__file__).with_name("__main__.py")).split()
    process = subprocess.Popen(
        words,
        cwd=repository.parent if "--cd" in command else repository,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not (repository / "begun").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        said = call(repository, REPAIR, ok=False)
        assert f"error: DVC or a stage runs here (PID {process.pid}: " in said
        assert len([line for line in said.splitlines() if line.startswith("error")]) == 1
        assert stored.exists()
    finally:
        os.killpg(process.pid, 9)
        process.wait()
