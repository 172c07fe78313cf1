"""Outputs appear whole or not at all, and damage is noticed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from shlex import quote

import pytest

from softprompt.runtime.errors import InputError
from softprompt.runtime.outputs import output_file, output_folder, verified
from tests.toy import ROOT


def write(folder: Path, text: str = "rows") -> None:
    with output_folder(folder) as partial:
        (partial / "a.txt").write_text(text, encoding="utf-8")
        (partial / "b.txt").write_text("more", encoding="utf-8")


def test_a_folder_and_its_manifest(tmp_path: Path) -> None:
    write(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["SHA256SUMS", "a.txt", "b.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert verified(tmp_path / "out", "stage") == tmp_path / "out"
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=tmp_path / "out", check=True)


def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "out", "old")
    with pytest.raises(RuntimeError), output_folder(tmp_path / "out") as partial:
        (partial / "a.txt").write_text("half", encoding="utf-8")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out/a.txt").read_text(encoding="utf-8") == "old"


def test_what_a_killed_run_left_is_cleared(tmp_path: Path) -> None:
    code = (
        "import os, signal; from pathlib import Path; from softprompt.runtime.outputs import output_folder\n"
        f"with output_folder(Path({str(tmp_path / 'out')!r})) as folder:\n"
        "    (folder / 'half').write_text('x'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == -9
    assert not (tmp_path / "out").exists()
    write(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not (tmp_path / "out/half").exists()


def test_a_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), output_file(tmp_path / "new/out.json") as partial:
        partial.write_text("half", encoding="utf-8")
        raise RuntimeError
    assert list((tmp_path / "new").iterdir()) == []


def test_a_missing_folder_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dvc repro prepare"):
        verified(tmp_path / "out", "prepare")


def test_damage_is_noticed_and_named(tmp_path: Path) -> None:
    write(tmp_path / "out")
    (tmp_path / "out/a.txt").write_text("rowz", encoding="utf-8")
    (tmp_path / "out/b.txt").unlink()
    with pytest.raises(InputError) as error:
        verified(tmp_path / "out", "stage")
    missing, damaged, way_out = str(error.value).splitlines()
    assert "a.txt is damaged" in damaged
    assert "b.txt is missing" in missing
    assert "make repair" in way_out


def test_a_manifest_that_lost_a_line_vouches_for_nothing(tmp_path: Path) -> None:
    write(tmp_path / "out")
    manifest = tmp_path / "out/SHA256SUMS"
    manifest.write_text(manifest.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"b\.txt is not in "):
        verified(tmp_path / "out", "stage")
    manifest.write_bytes(b"\xff\x00")
    with pytest.raises(InputError, match=r"a\.txt is not in "):
        verified(tmp_path / "out", "stage")


def can_mount() -> bool:
    """Whether this machine lets a process mount a small file system in a namespace of its own."""
    return subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(not (os.path.exists("/usr/bin/unshare") and can_mount()), reason="no private mount namespace here")
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, finished: Path) -> None:
    """A real one: data/ on a file system of 64 KiB."""
    (tmp_path / "data").mkdir()
    for name in ("toy", "params.yaml"):
        (tmp_path / name).symlink_to(finished / name)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"instruction": "a", "output": os.urandom(200_000).hex()}), encoding="utf-8")
    command = (
        "mount -t tmpfs -o size=64k full data && mkdir data/local && "
        f"PYTHONPATH={quote(str(ROOT))} {quote(sys.executable)} -m stages.fetch_data; "
        "status=$?; ls -A data; exit $status"
    )
    (tmp_path / "params.yaml").unlink()
    text = (finished / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(text.replace("toy/rows.json", "rows.jsonl"), encoding="utf-8")
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", command], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert result.returncode == 1, result.stderr
    assert result.stderr.startswith("error: the disk is full")
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout.splitlines()[-1] == "local", "what ls shows"
