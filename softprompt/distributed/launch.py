"""A stage under a launcher: `launcher` in params.yaml starts it again, in as many processes as the launcher makes.

    dvc -> python -m stages.train -> torchrun --nproc-per-node 2 -> python -m stages.train, twice

The process that DVC started waits for the launcher. It says what the others have to say at their end, once and in one
line: a launcher would say it with a traceback of its own. None of them outlives it.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psutil

from softprompt import distributed
from softprompt.config import Params
from softprompt.runtime.errors import InputError
from softprompt.runtime.guard import die_with_parent, in_words, on_interrupt
from softprompt.runtime.libraries import load_libraries
from softprompt.runtime.outputs import write_json

ALONE = "python"
ENDS = "PROMPT_TUNING_ENDS"  # names the folder in which the launched processes leave their PID and how they ended
GRACE = 5.0  # seconds that the others have to end by themselves, once one has refused
SHARDED = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM")


def launched(stage: Callable[[Params], None], module: str) -> Callable[[Params], None]:
    """`stage`, run as `params.launcher` says; `module` is what `python -m` takes to run it."""

    def run(params: Params) -> None:
        if ENDS in os.environ or "LOCAL_RANK" in os.environ:  # the latter: a launcher of another host
            _be_one_of_several(stage, params)
        elif params.launcher == ALONE:
            stage(params)
        else:
            _launch([*shlex.split(params.launcher), "-m", module], params)

    return run


def _launch(command: list[str], params: Params) -> None:
    with tempfile.TemporaryDirectory(prefix="launch-") as name:
        # Without OMP_NUM_THREADS launchers set it themselves, and say so at length.
        environment = {**os.environ, ENDS: name, "OMP_NUM_THREADS": str(params.threads)}
        try:
            # A session of its own: a terminal's Ctrl-C reaches this process alone, which passes it on.
            launcher = subprocess.Popen(
                command,
                env=environment,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 (no thread runs yet)
            )
        except OSError as error:
            raise InputError(
                f"launcher: {params.launcher!r} can't be run: {error.strerror}; allowed: python, or a launcher such as "
                "torchrun --nproc-per-node 2, or accelerate launch --multi_gpu --num_processes 8"
            ) from None
        family = Family(Path(name))
        with _interrupts_passed_on(family):
            killed = _wait(launcher, family)
        _tell(family, killed, params.launcher, launcher.returncode)


@dataclass(frozen=True)
class Family:
    """The processes that a launcher has started, by what they leave in `folder`: PID.pid, and PID.end at their end."""

    folder: Path

    def pids(self) -> list[int]:
        """Of all that have begun."""
        return [int(path.stem) for path in self.folder.glob("*.pid")]

    def ends(self, kind: str) -> list[str]:
        """What those that ended so have to say, the first one first: with an "error", an "interrupt", or a "crash".

        Where one fails, the others fail a little later, because it is gone.
        """
        found = [json.loads(path.read_text(encoding="utf-8")) for path in self.folder.glob("*.end")]
        return [end["text"] for end in sorted(found, key=lambda end: end["time"]) if end["kind"] == kind]

    def killed(self) -> list[int]:
        """PIDs of those that are gone without a word."""
        gone = [pid for pid in self.pids() if not _is_alive(pid)]
        return [pid for pid in gone if not (self.folder / f"{pid}.end").exists()]


def _wait(launcher: subprocess.Popen, family: Family) -> list[int]:
    """Until the launcher ends. Once a process has, in whichever way, the others may wait for it for ever.

    Returns:
        PIDs of the processes that something else has killed.
    """
    deadline, killed = None, []
    while launcher.poll() is None:
        time.sleep(0.02)
        if deadline is None and (family.ends("error") or family.ends("crash")):
            deadline = time.monotonic() + GRACE
        killed = family.killed()
        if killed or (deadline is not None and time.monotonic() > deadline):
            launcher.kill()  # and with it all of its processes, see `die_with_parent`
            launcher.wait()
    while any(_is_alive(pid) for pid in family.pids()):  # what it writes to would be cleared away under it
        time.sleep(0.02)
    if not killed and deadline is None:  # the launcher may have seen it first, and ended
        killed = family.killed()
    return killed


def _tell(family: Family, killed: list[int], launch: str, status: int) -> None:
    """What the processes have to say."""
    if said := [*family.ends("error"), *family.ends("interrupt")]:
        sys.exit(said[0])
    if killed:
        pids = ", ".join(map(str, killed))
        raise InputError(
            f"launcher: process {pids} of {launch!r} was killed, perhaps because memory ran out; the others were ended."
            " Checkpoints are kept: the same command goes on from there"
        )
    if crashes := family.ends("crash"):
        print(crashes[0], file=sys.stderr)
        sys.exit(1)
    if status:
        raise InputError(f"launcher: {launch!r} ended with status {status}, see above")


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def _interrupts_passed_on(family: Family) -> Iterator[None]:
    def pass_on(*_: object) -> None:
        for pid in family.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)

    with on_interrupt(pass_on):
        yield


def _be_one_of_several(stage: Callable[[Params], None], params: Params) -> None:
    """Run `stage` with the others that the launcher has started, say how it ended, and end this process.

    An end that the waiting process tells is, for the launcher, like any other.
    """
    word = Path(os.environ[ENDS]) / str(os.getpid()) if ENDS in os.environ else None
    if word:
        word.with_suffix(".pid").touch()
    kind, text = "done", ""
    try:
        with _joined(params):
            stage(params)
    except BaseException as error:
        said = in_words(error)
        kind = "interrupt" if isinstance(error, KeyboardInterrupt) else "crash" if said is None else "error"
        text = said or traceback.format_exc()
    if word:
        write_json(word.with_suffix(".end"), {"kind": kind, "text": text, "time": time.monotonic()})
    elif text:
        print(text, file=sys.stderr)
    # Not Python's own way out. Under NCCL the group may wait in it for processes that wait for this one. And on a busy
    # machine some processes, all done, aborted in it ("terminate called without an active exception"), as a library's
    # thread does that asks for the interpreter's lock then. Probably gloo's.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if text and not word else 0)


@contextlib.contextmanager
def _joined(params: Params) -> Iterator[None]:
    """The processes know each other within the block; all but the first are silent in it.

    One that fails leaves the block and not the group: under NCCL that may wait for the others for ever, which wait for
    this one, before anything is said.

    Raises:
        InputError: if the launcher is to shard the model.
    """
    if sharded := [name for name in SHARDED if os.environ.get(name, "").lower() == "true"]:
        engine = sharded[0].removeprefix("ACCELERATE_USE_")
        raise InputError(
            f"launcher: {engine} splits the model's weights over the processes, but a shared prefix calls its decoder "
            "and its output layer each by itself, which its wrappers don't allow; allowed: launchers without it, and "
            "model.device_map: auto for a model that is larger than one device"
        )
    load_libraries()
    import torch
    from accelerate import PartialState

    on_cpu = params.device == "cpu" or not torch.cuda.is_available()
    # No process waits in vain: if another dies, all are ended. One may wait long, for a run of the same work.
    PartialState(cpu=on_cpu, timeout=timedelta(days=7))
    with contextlib.ExitStack() as silence:
        if not distributed.is_first():
            nowhere = silence.enter_context(open(os.devnull, "w", encoding="utf-8"))
            silence.enter_context(contextlib.redirect_stdout(nowhere))
            silence.enter_context(contextlib.redirect_stderr(nowhere))
        yield
    distributed.wait()  # or those that are done first would take the ground from under the others
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
