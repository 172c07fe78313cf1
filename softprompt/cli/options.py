"""Options that commands share: which adapter, which variants, how answers are generated."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError

from softprompt.cli.hub import adapter_folder
from softprompt.config import Params
from softprompt.config.evaluate import Generate
from softprompt.config.faults import describe
from softprompt.config.section import Text
from softprompt.runtime.errors import InputError
from softprompt.runtime.text import is_text

if TYPE_CHECKING:
    from softprompt.data.rows import Message

NEW_TOKENS = 256  # what people wait for; evaluation's answers are shorter
SAMPLING = ("temperature", "top_k", "top_p", "seed")

Adapter = Annotated[
    Path | None,
    typer.Option(
        help="Another adapter, instead of models/adapter.",
        parser=adapter_folder,
        metavar="FOLDER|hf://OWNER/NAME[@REVISION]",
    ),
]
Base = Annotated[bool, typer.Option("--base", help="Also answer as the base model.")]
FewShot = Annotated[
    bool, typer.Option("--few-shot", help="Also answer with the training rows that evaluate took as examples.")
]
Hard = Annotated[bool, typer.Option("--hard", help="Also answer with the hard prompt (evaluate.hard_prompt).")]
System = Annotated[
    str | None,
    typer.Option(help="System turn; default: tokenize.system of the adapter's training.", show_default=False),
]
MaxNewTokens = Annotated[int, typer.Option(help="Tokens of an answer at most.")]
DoSample = Annotated[
    bool | None, typer.Option("--do-sample/--no-do-sample", help="Sample, or take the likeliest token.")
]
Temperature = Annotated[float | None, typer.Option(help="Of sampling, at least 0.000001.")]
TopK = Annotated[int | None, typer.Option(help="Sample among this many likeliest tokens; 0: all.")]
TopP = Annotated[float | None, typer.Option(help="Sample among the likeliest tokens of this total probability.")]
RepetitionPenalty = Annotated[float | None, typer.Option(help="Above 1: fewer repetitions; 1: none.")]
Seed = Annotated[int | None, typer.Option(help="Of sampling; default: `seed` of params.yaml.", min=0, max=2**32 - 1)]
Force = Annotated[bool, typer.Option("--force", help="Overwrite an earlier export.")]


def generate_settings(params: Params, seed: int | None, **given: Any) -> tuple[Generate, int]:
    """`evaluate.generate` and `seed` of params.yaml with the options that were given (not None) in their place.

    Raises:
        InputError: if a value is not allowed, or an option of sampling would have no effect.
    """
    given = {name: value for name, value in given.items() if value is not None}
    try:
        settings = Generate.model_validate(params.evaluate.generate.model_dump() | given)
    except ValidationError as error:
        raise InputError(*(_as_option(fault) for fault in describe(error, Generate))) from None
    asked = {*given, *(["seed"] if seed is not None else [])}
    without_effect = [name for name in SAMPLING if name in asked]
    if without_effect and not settings.do_sample:
        names = ", ".join(map(_option, without_effect))
        raise InputError(f"{names}: without an effect where nothing is sampled; add --do-sample, or leave it out")
    return settings, params.seed if seed is None else seed


def question_text(given: str) -> str:
    """A question, cleaned as those of the training were.

    Raises:
        InputError: if it is empty, or no text.
    """
    return _text("the question", given)


def system_turn(given: str | None) -> list["Message"]:
    """What a conversation begins with by --system.

    Raises:
        InputError: if it is empty, or no text, or has a line break that is none.
    """
    if given is None:
        return []
    try:
        text = TypeAdapter(Text).validate_python(_text("--system", given))
    except ValidationError as error:
        raise InputError(f"--system: allowed: {error.errors()[0]['ctx']['error']}") from None
    return [{"role": "system", "content": text}]


def _text(what: str, given: str) -> str:
    if not is_text(given):
        raise InputError(f"{what} is not UTF-8 text")
    from softprompt.data.rows import clean  # with pyarrow, which no other command needs

    if not (text := clean(given)):
        raise InputError(f"{what} is empty; allowed: at least one character")
    return text


def _as_option(fault: str) -> str:
    key, _, rest = fault.partition(":")
    return f"{_option(key)}:{rest}"


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
