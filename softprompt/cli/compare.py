"""`softprompt compare`: adapters on the same test rows, in one table with intervals."""

import json
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from softprompt.cli.evaluated import baselines_of, with_evaluated
from softprompt.cli.hub import SCHEME, fetched
from softprompt.cli.loading import check_adapter, enter_repository, variants_of
from softprompt.cli.lock import WORKSPACE, adapter_of, check_lock
from softprompt.cli.table import BASE, compared
from softprompt.config import Params, load_params
from softprompt.runtime.errors import InputError
from softprompt.runtime.libraries import load_libraries
from softprompt.runtime.outputs import verified
from softprompt.runtime.paths import ADAPTER, BASE_MODEL, TOKENIZED

if TYPE_CHECKING:
    import numpy as np


def compare(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="A [B …]", help="A folder, hf://OWNER/NAME, an experiment, a git revision, or workspace."
        ),
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for machines.")] = False,
) -> None:
    """Score adapters on the same test rows.

    The rows are those of data/tokenized/test.arrow, the result is one table. Each adapter is a folder, or
    hf://OWNER/NAME[@REVISION]; an experiment, branch, tag or commit, whose models/adapter is taken from DVC's cache; or
    workspace, for models/adapter itself.
    Negative differences are better. Intervals are of a paired bootstrap over questions, as in results/metrics.json.
    """
    here = Path.cwd()
    enter_repository()
    params = load_params()
    verified(BASE_MODEL, "fetch_model")
    verified(TOKENIZED, "tokenize")
    check_lock(BASE_MODEL)
    with _adapters(dict.fromkeys(names), here) as adapters:
        result = _scores(adapters, params)
    print(json.dumps(result, indent=2, ensure_ascii=False) if as_json else compared(result))


@contextmanager
def _adapters(names: dict[str, None], here: Path) -> Iterator[dict[str, Path]]:
    """The folder of each adapter, all of them of the base model and the template that the rows have."""
    with tempfile.TemporaryDirectory(prefix="softprompt-") as scratch:
        adapters = {}
        for number, name in enumerate(names):
            if name == WORKSPACE:
                adapters[name] = verified(ADAPTER, "train")
                check_lock(ADAPTER)
            elif name.startswith(SCHEME):
                adapters[name] = fetched(name)
            elif (here / name).is_dir():
                adapters[name] = (here / name).resolve()
                check_adapter(adapters[name])
            else:
                adapters[name] = adapter_of(name, Path(scratch) / str(number))
        for name, folder in adapters.items():
            _check_origin(name, folder)
        yield adapters


def _check_origin(name: str, folder: Path) -> None:
    load_libraries()
    from transformers import AutoTokenizer

    from softprompt.evaluation.variants import template_of
    from softprompt.provenance.origin import read_origin

    try:
        origin = read_origin(folder, BASE_MODEL)
        # As the template has them: an earlier adapter's has no chat template, for the model's own.
        settings = template_of(AutoTokenizer.from_pretrained(BASE_MODEL), folder, origin).settings
    except InputError as error:
        raise InputError(str(error).replace(str(folder), name)) from None
    rows = json.loads((TOKENIZED / "template.json").read_text(encoding="utf-8"))
    if others := [key for key, value in settings.items() if rows[key] != value]:
        raise InputError(
            f"{name} was tuned with another template than the rows of {TOKENIZED} have: its origin.json has another "
            f"{', '.join(others)}; only adapters of one template compare: set these keys of tokenize in params.yaml to "
            "what it says and run dvc repro tokenize, or leave it out"
        )


def _scores(adapters: dict[str, Path], params: Params) -> dict[str, Any]:
    """Loss and differences of the baselines, as the evaluation has them, and of each adapter.

    Adapters with virtual tokens share one base model. LoRA changes its layers, so each of these, the last to be scored,
    has its own.
    """
    import numpy as np
    from datasets import Dataset
    from peft import PeftConfig

    from softprompt.engine.model import SharedPrefixModel
    from softprompt.engine.packing import row_lengths
    from softprompt.engine.row_losses import row_losses
    from softprompt.evaluation.names import NAMES
    from softprompt.training.base import check_context

    test = Dataset.from_file(str(TOKENIZED / "test.arrow"))
    groups, longest = np.array(test["question_id"]), int(row_lengths(test).max())
    configs = {name: PeftConfig.from_pretrained(str(folder)) for name, folder in adapters.items()}
    prompts = {name: config.num_virtual_tokens if config.is_prompt_learning else 0 for name, config in configs.items()}
    first, *others = sorted(adapters, key=lambda name: not prompts[name])
    variants = with_evaluated(variants_of(BASE_MODEL, adapters[first], params), params)
    given = baselines_of(variants, test)
    # What can't be scored is refused before anything is.
    for name in adapters:
        check_context(variants.model.frozen, prompts[name], longest, f"{name}: a soft prompt")
    for variant, of_variant in given.items():
        of_rows = int(row_lengths(of_variant.rows).max())  # with a system turn, longer ones
        what = f"{NAMES[variant]}: a text" if of_variant.ahead else NAMES[variant]
        check_context(variants.model.frozen, len(of_variant.ahead), of_rows, what)

    scored, model = variants.losses(given, params.evaluate.batch_size, "test rows"), variants.model
    del variants  # it would keep the first base model
    of_adapter, tokens = {}, scored["tokens"].to_numpy()
    for name in (first, *others):
        if name != first and prompts[name]:
            model = SharedPrefixModel.from_pretrained(model.frozen, str(adapters[name]))
        elif name != first:
            del model  # before the next one is loaded
            model = variants_of(BASE_MODEL, adapters[name], params).model
        of_adapter[name], _ = row_losses(model, test, params.evaluate.batch_size, name)

    entries: list[dict[str, Any]] = [
        {"name": NAMES[variant], "method": None, "virtual_tokens": None} for variant in given
    ]
    entries += [
        {"name": name, "method": config.peft_type.value.lower(), "virtual_tokens": prompts[name]}
        for name, config in configs.items()
    ]
    losses = [*(scored[variant].to_numpy() for variant in given), *(of_adapter[name] for name in adapters)]
    return {
        "rows": len(test),
        "questions": len(np.unique(groups)),
        "tokens": int(tokens.sum()),
        "compared": [
            entry | _against(place, len(given), losses, tokens, groups) for place, entry in enumerate(entries)
        ],
    }


def _against(
    place: int, first: int, losses: list["np.ndarray"], tokens: "np.ndarray", groups: "np.ndarray"
) -> dict[str, Any]:
    """Loss of the entry at `place`, and its differences to the first adapter's, at `first`, and the base model's."""
    from softprompt.evaluation.bootstrap import paired_differences

    loss = float(losses[place].sum() / tokens.sum())
    variants = {"minus_first": first, "minus_base": BASE}
    gaps = paired_differences(losses[place], [losses[variant] for variant in variants.values()], tokens, groups)
    shown = {
        name: None if variant == place else gap for (name, variant), gap in zip(variants.items(), gaps, strict=True)
    }
    return {"loss": loss, "perplexity": math.exp(loss), **shown}
