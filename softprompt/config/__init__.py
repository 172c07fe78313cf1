"""params.yaml, checked whole before any stage does anything.

`python -m softprompt.config` checks the file and says nothing, or names every fault at once and exits with status 1.
"""

import shlex
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError

from softprompt.config.data import Data
from softprompt.config.evaluate import Evaluate
from softprompt.config.faults import describe
from softprompt.config.general import General
from softprompt.config.model import Model
from softprompt.config.prepare import Prepare
from softprompt.config.runtime import Runtime
from softprompt.config.section import Section
from softprompt.config.tokenize import Tokenize
from softprompt.config.train import Train
from softprompt.runtime.errors import InputError
from softprompt.runtime.text import read_text

PARAMS_FILE = Path("params.yaml")
COMMITTED = "git show HEAD:params.yaml shows the committed one"


def _is_command(text: str) -> str:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"a command: {error}") from None
    if not words:
        raise ValueError("python, or the command of a launcher")
    return text


class Params(Section):
    """All of params.yaml, one attribute per section."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    threads: Annotated[int, Field(ge=1, le=1024)]
    cpu_matmul: Literal["onednn", "mkl", "auto"]
    device: Literal["cpu", "cuda", "mps", "auto"]
    launcher: Annotated[str, AfterValidator(_is_command)]
    model: Model
    data: Data
    general: General
    prepare: Prepare
    tokenize: Tokenize
    train: Train
    evaluate: Evaluate
    runtime: Runtime


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check `path`.

    Raises:
        InputError: with one line per fault: the key, the value received and what is allowed.
    """
    # DVC reads and writes params.yaml with ruamel (YAML 1.2). PyYAML would read the 1e-05 that `-S` writes as a string.
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        values = YAML(typ="safe", pure=True).load(read_text(path))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; {COMMITTED}") from None
    except MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{path}{line}: not valid YAML: {(error.problem or '').strip()}; {COMMITTED}") from None
    # A date that is none, a number or a nesting beyond Python's limits is no error of YAML's.
    except (YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid YAML: {error}; {COMMITTED}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: not a mapping of keys and sections; {COMMITTED}")
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        faults = describe(error, Params)
        raise InputError(*(f"{path}: {fault}" for fault in faults)) from None
