"""The base model and an adapter for a command: those that dvc.lock describes, or an adapter that the user names."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from softprompt.cli.lock import check_lock
from softprompt.config import Params
from softprompt.runtime.errors import InputError
from softprompt.runtime.libraries import load_libraries
from softprompt.runtime.outputs import MANIFEST, faults_in, verified
from softprompt.runtime.paths import ADAPTER, BASE_MODEL

if TYPE_CHECKING:
    from softprompt.evaluation.variants import Variants


def enter_repository() -> None:
    """Make the repository's root the current folder, from any folder in it: PEFT and DVC name paths from there.

    Raises:
        InputError: outside of it.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file():
            os.chdir(folder)
            return
    raise InputError(f"{here} is in no repository of the pipeline (no dvc.yaml here or above); change into one")


def load_variants(adapter: Path | None, params: Params) -> "Variants":
    """The base model and its variants, tuned with `adapter` (None: models/adapter).

    Raises:
        InputError: if models/base, or models/adapter where it is used, is missing, damaged or not what dvc.lock
            describes; if the adapter was tuned on another model.
    """
    base = verified(BASE_MODEL, "fetch_model")
    if adapter is None:
        adapter = verified(ADAPTER, "train")
        check_lock(BASE_MODEL, ADAPTER)
    else:
        check_adapter(adapter)
        check_lock(BASE_MODEL)
    return variants_of(base, adapter, params)


def variants_of(base: Path, adapter: Path, params: Params) -> "Variants":
    """`Variants.load` of folders that were checked, without what libraries say and show as they load."""
    load_libraries()
    from transformers.utils import logging

    from softprompt.evaluation.variants import Variants

    logging.disable_progress_bar()
    return Variants.load(base, adapter, params)


def check_adapter(folder: Path) -> None:
    """Refuse a folder that is no whole adapter.

    Raises:
        InputError: if there is none, or a file of it is missing or damaged.
    """
    if not (folder / MANIFEST).is_file() or not (folder / "adapter_config.json").is_file():
        raise InputError(
            f"{folder} is no adapter (with adapter_config.json and {MANIFEST}); allowed: a whole copy of {ADAPTER}, "
            "or what softprompt export prefix made"
        )
    if faults := faults_in(folder):
        raise InputError(*faults, f"copy or make {folder} again")
