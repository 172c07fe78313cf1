"""Resident memory of this process, in bytes, as the kernel counts it (Linux)."""

import contextlib
from pathlib import Path

from torch import nn


def resident() -> int:
    """What is held now."""
    return _status("VmRSS")


def unmapped() -> int:
    """What is resident and no file is mapped to: the kernel can't take it back where memory is short."""
    return _status("RssAnon")


def peak() -> int:
    """The most that was held since `restart_peak`."""
    return _status("VmHWM")


def restart_peak() -> None:
    """Forget earlier peaks: loading a model has its own. (`getrusage`'s survives even exec, so is no use here.)"""
    with contextlib.suppress(OSError):  # where that is forbidden, the peak covers the loading too
        Path("/proc/self/clear_refs").write_text("5")


def touch(model: nn.Module) -> None:
    """Make all weights resident: a mapped file is read when it is first used, and would count as use of memory."""
    for parameter in model.parameters():
        parameter.sum()


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
