"""How a stage runs: params checked first, one clear line for bad input, and how to go back from a failed experiment."""

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator

from softprompt.config import Params, load_params
from softprompt.runtime.errors import InputError
from softprompt.runtime.experiment import is_repro, undoable
from softprompt.runtime.guard import die_with_parent, exit_on_input_error, set_environment


def run_stage(stage: Callable[[Params], None], *, network: bool = False) -> None:
    """Run `stage` on the checked params.yaml.

    `network`: whether the stage may reach a hub; the others read local files only, and telemetry stays off.
    """
    set_environment(network=network)
    with undoable() as advice, _ending_with(advice), exit_on_input_error():
        die_with_parent()
        stage(_checked_params())


def _checked_params() -> Params:
    try:
        return load_params()
    except InputError as error:
        if is_repro():
            raise InputError(*error.args, "the outputs that DVC has deleted come back with: dvc checkout") from None
        raise


@contextlib.contextmanager
def _ending_with(advice: list[str]) -> Iterator[None]:
    """Have whatever is said when the block fails, a traceback too, end with the lines of `advice`."""
    try:
        yield
    except SystemExit as error:
        if not advice or not error.code:
            raise
        raise SystemExit("\n".join([error.code, *advice] if isinstance(error.code, str) else advice)) from None
    except Exception:
        if not advice:
            raise
        traceback.print_exc()
        sys.exit("\n".join(advice))
