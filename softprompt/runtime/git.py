"""What git says."""

import subprocess
from pathlib import Path


def git(*arguments: str, given: str = "", cwd: Path | None = None) -> bytes:
    """What git prints, told `given`, in the folder `cwd`; nothing where it fails, as outside of a repository."""
    result = subprocess.run(["git", *arguments], input=given.encode(), cwd=cwd, capture_output=True, check=False)
    return result.stdout if result.returncode == 0 else b""


def git_text(*arguments: str, given: str = "", cwd: Path | None = None) -> str:
    """`git` as text, without white space around it."""
    return git(*arguments, given=given, cwd=cwd).decode().strip()
