"""`softprompt generate` and `softprompt chat`: ask the tuned model, and its variants beside it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from softprompt.cli.evaluated import check_few_shot, with_evaluated
from softprompt.cli.loading import enter_repository, load_variants
from softprompt.cli.options import (
    NEW_TOKENS,
    Adapter,
    Base,
    DoSample,
    FewShot,
    Hard,
    MaxNewTokens,
    RepetitionPenalty,
    Seed,
    System,
    Temperature,
    TopK,
    TopP,
    generate_settings,
    question_text,
    system_turn,
)
from softprompt.config import load_params
from softprompt.runtime.errors import InputError

if TYPE_CHECKING:
    from softprompt.cli.streaming import Answerer
    from softprompt.data.rows import Message


def generate(
    question: Annotated[str | None, typer.Argument(help="Without it, or as -: all of standard input.")] = None,
    *,
    adapter: Adapter = None,
    system: System = None,
    base: Base = False,
    hard: Hard = False,
    few_shot: FewShot = False,
    max_new_tokens: MaxNewTokens = NEW_TOKENS,
    do_sample: DoSample = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    repetition_penalty: RepetitionPenalty = None,
    seed: Seed = None,
) -> None:
    """Answer one question.

    The answer appears as it is generated. The question is put as in the adapter's training: its template is applied
    here. Options of sampling are named as in transformers, and default to evaluate.generate in params.yaml.
    """
    messages = [*system_turn(system), {"role": "user", "content": _question(question)}]
    answerer = _answerer(
        adapter,
        {"few_shot": few_shot, "hard": hard, "base": base},
        seed,
        max_new_tokens=max_new_tokens,
        do_sample=do_sample,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
    )
    answerer.answer(messages, _note)


def chat(
    *,
    adapter: Adapter = None,
    system: System = None,
    base: Base = False,
    hard: Hard = False,
    few_shot: FewShot = False,
    max_new_tokens: MaxNewTokens = NEW_TOKENS,
    do_sample: DoSample = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    repetition_penalty: RepetitionPenalty = None,
    seed: Seed = None,
) -> None:
    """Talk with the tuned model.

    /new begins afresh, /exit or Ctrl-D ends. In a pipe each line is a turn. With --base, --hard and --few-shot the
    variants answer each turn too, and the conversation goes on with the tuned answer.
    """
    begin = system_turn(system)
    answerer = _answerer(
        adapter,
        {"few_shot": few_shot, "hard": hard, "base": base},
        seed,
        max_new_tokens=max_new_tokens,
        do_sample=do_sample,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
    )
    from softprompt.data.templates import CHAT

    if answerer.variants.template.settings["template"] != CHAT:
        raise InputError(
            "the adapter was tuned with a literal template (tokenize.template), which has no turns; ask single "
            'questions: softprompt generate "…"'
        )
    _converse(answerer, begin, terminal=sys.stdin.isatty() and sys.stdout.isatty())


def _converse(answerer: "Answerer", begin: list["Message"], *, terminal: bool) -> None:
    messages = begin
    for line in _typed() if terminal else _piped():
        asked = line.strip() and question_text(line)
        if asked == "/exit":
            return
        if asked == "/new":
            messages = begin
        elif asked:
            turn: Message = {"role": "user", "content": asked}
            try:
                answer = answerer.answer([*messages, turn], _note)
            except InputError as error:
                if not terminal:
                    raise InputError(f"{error}, or begin afresh with a line /new") from None
                _note(f"{error}, or begin afresh with /new")
                continue
            messages = [*messages, turn, {"role": "assistant", "content": answer}]


def _answerer(adapter: Path | None, beside: dict[str, bool], seed: int | None, **settings: object) -> "Answerer":
    enter_repository()
    params = load_params()
    checked = generate_settings(params, seed, **settings)
    variants = load_variants(adapter, params)
    if beside["hard"] or beside["few_shot"]:
        variants = with_evaluated(variants, params)
    if beside["few_shot"]:
        check_few_shot(variants)
    from softprompt.cli.streaming import Answerer

    return Answerer(variants, *checked, ["tuned", *(variant for variant, is_asked in beside.items() if is_asked)])


def _question(given: str | None) -> str:
    """What is asked: the argument, or all of standard input."""
    if given not in (None, "-"):
        text = given or ""
    elif sys.stdin.isatty():
        raise typer.BadParameter("a question, or text in a pipe", param_hint="QUESTION")
    else:
        text = "".join(_piped())
    return question_text(text)


def _typed() -> Iterator[str]:
    """Lines typed at a prompt, with the usual keys of editing, up to Ctrl-D."""
    import readline  # noqa: F401 - input() uses it once it is imported

    while True:
        try:
            yield input(">>> ")
        except EOFError:
            print()
            return


def _piped() -> Iterator[str]:
    try:
        yield from sys.stdin
    except UnicodeDecodeError as error:
        raise InputError(f"standard input is not UTF-8 text (byte {error.start})") from None


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr, flush=True)
