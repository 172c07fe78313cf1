"""What every program of the project has around it: one clear line for bad input, no orphan when DVC is killed."""

import contextlib
import ctypes
import errno
import io
import logging
import os
import pwd
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from softprompt.runtime.errors import InputError
from softprompt.runtime.paths import main_repository

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
PR_SET_PDEATHSIG = 1
OWN_CACHE = ".user_cache"  # ignored by git and DVC, as .*_cache


def set_environment(*, network: bool = False) -> None:
    """Tell the libraries, before they are imported: no telemetry, and without `network` no hub.

    What they ask for and a container's user may lack is here too: a name, a home, and a cache that can be written to.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    _name_user()
    if network:
        _place_caches()
    else:
        os.environ["HF_HUB_OFFLINE"] = "1"
    # Rust's tokenizers and a process pool share the cores; a forked child must not inherit its threads.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # torch's threads spin while they wait for work, which takes the cores from an experiment that runs beside this one.
    # Measured on 2 cores: two trainings at once took 168 s, with this 75 s; one alone 42 s and 41 s.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # PEFT imports it where it is installed, and on some CPUs it then warns that it lacks a kernel.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def _name_user() -> None:
    """As the Makefile does: DVC asks for the user's name and home, which need an entry in passwd or these variables."""
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("LOGNAME", str(os.getuid()))
        os.environ.setdefault("HOME", "/nonexistent")


def _place_caches() -> None:
    """Have the hubs and pip keep their caches in this repository where the user's own can't be written to."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    with contextlib.suppress(OSError):
        cache.mkdir(parents=True, exist_ok=True)
    if not os.access(cache, os.W_OK):
        own = main_repository().resolve() / OWN_CACHE
        os.environ["XDG_CACHE_HOME"] = str(own)
        os.environ.setdefault("MODELSCOPE_CACHE", str(own / "modelscope"))


@contextlib.contextmanager
def exit_on_input_error() -> Iterator[None]:
    """Turn `InputError`, a full disk and Ctrl-C into one line on stderr and exit status 1."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal that lacks a character shows its escape, as on stderr
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if (said := in_words(error)) is None:
            raise
        sys.exit(said)


def in_words(error: BaseException) -> str | None:
    """What the user reads of an error that is no bug: one line a fault. None where it may be one."""
    if isinstance(error, InputError):
        return "\n".join(f"error: {line}" for line in str(error).splitlines())
    if isinstance(error, KeyboardInterrupt):
        kept = str(error) or "nothing half written was kept"
        return f"interrupted: {kept}; run the same command again"
    where = getattr(error, "filename", None)
    if disk_is_full(error):
        return (
            f"error: the disk is full{f' (writing {where})' if where else ''}; nothing half written was kept: "
            "free some space and run the same command again"
        )
    if isinstance(error, OSError) and where:
        return f"error: can't read or write {where}: {error.strerror}; nothing half written was kept"
    return None


@contextlib.contextmanager
def on_interrupt(handler: Callable[..., None]) -> Iterator[None]:
    """Within the block Ctrl-C calls `handler`, where nobody asked to ignore it, as in the background of a script."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def disk_is_full(error: BaseException) -> bool:
    """Whether `error` says so: safetensors, Arrow and torch each wrap the system's own in a class of theirs."""
    return getattr(error, "errno", None) in NO_SPACE or "No space left on device" in str(error)


def die_with_parent() -> None:
    """Have the kernel end this process when its parent dies: no orphan of a killed DVC goes on writing (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # SIGTERM may be ignored: that is inherited
