"""Hashes of the code that a stage depends on, as dvc.yaml lists it."""

import hashlib
from pathlib import Path

from softprompt.provenance.graph import stages_of
from softprompt.runtime.outputs import sha256_of

CODE = ("softprompt", "stages")


def code_of(stage: str, root: Path, code: Path) -> dict[str, str]:
    """SHA-256 of each file or folder of code that `stage` depends on.

    Args:
        stage: a stage of the dvc.yaml in `root`.
        root: a repository.
        code: the folder that `softprompt/` and `stages/` lie in, wherever it is.
    """
    deps = [dep for dep in stages_of(root)[stage]["deps"] if dep.partition("/")[0] in CODE]
    return {dep: code_hash(code / dep) for dep in deps}


def code_hash(path: Path) -> str:
    """SHA-256 of a Python file, or over the lines "SHA-256  name" of every one in a folder, sorted by name."""
    if path.is_file():
        return sha256_of(path)
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*.py"))
    lines = [f"{sha256_of(path / name)}  {name}\n" for name in names]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
