"""Commands put a question as the adapter's training put its own: template, variables, date and system turn."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from softprompt.data.templates import Template
from tests.cli.conftest import Command, copy_of, plain_peft
from tests.toy import CHATML

QUESTION = "What is an apple?"
ADAPTER = Path("models/adapter")
BLANKS = (
    "{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content }} {{ eos_token }}"
    "{% else %}[{{ m.role }}] {{ m.content }} [/{{ m.role }}]{% endif %}{% endfor %}"
)


def generated(messages: list[dict[str, str]], **settings: Any) -> str:
    """The greedy answer by PEFT's own generate, of 12 tokens."""
    model, tokenizer = plain_peft(ADAPTER)
    template = Template(tokenizer, "chat", None, **settings)
    given = torch.tensor([template.prompt_ids(messages)])
    with torch.no_grad():
        output = model.generate(
            input_ids=given, attention_mask=torch.ones_like(given), max_new_tokens=12, do_sample=False
        )
    return template.content_of(tokenizer.decode(output[0, given.shape[1] :], skip_special_tokens=True))


def turns(*contents: str, system: str | None = None) -> list[dict[str, str]]:
    first = [] if system is None else [{"role": "system", "content": system}]
    return [
        *first,
        *({"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(contents)),
    ]


def test_a_system_turn(answer: Command) -> None:
    with_it = answer("generate", "--system", " Count to three. ", "--max-new-tokens", 12, QUESTION)
    assert with_it == generated(turns(QUESTION, system="Count to three.")) + "\n"
    assert with_it != answer("generate", "--max-new-tokens", 12, QUESTION)


def test_a_system_turn_stays_in_a_conversation(answer: Command) -> None:
    first = generated(turns(QUESTION, system="Count."))
    second = generated(turns(QUESTION, first, "And a bell?", system="Count."))
    alone = generated(turns("And a bell?", system="Count."))
    lines = f"{QUESTION}\nAnd a bell?\n/new\nAnd a bell?\n"
    shown = answer("chat", "--system", "Count.", "--max-new-tokens", 12, stdin=lines)
    assert shown == f"{first}\n{second}\n{alone}\n"


@pytest.mark.parametrize(
    ("system", "message"),
    [
        (" ", "--system is empty; allowed: at least one character"),
        (r"One.\nTwo.", "--system: allowed: text without a backslash followed by n"),
        ("\udcff", "--system is not UTF-8 text"),
    ],
)
def test_a_system_text_that_is_none(refusal: Command, system: str, message: str) -> None:
    assert message in refusal("generate", "--system", system, QUESTION)


def test_a_literal_template_has_no_system_turn(refusal: Command, tmp_path: Path, repository: Path) -> None:
    literal = copy_of(ADAPTER, tmp_path / "literal", template="Q: {instruction} A: ", chat_template=None)
    message = refusal("generate", "--adapter", literal, "--system", "Count.", QUESTION)
    assert "literal text has no place for the rows' system turns" in message


def test_the_adapters_own_template_and_date(answer: Command, tmp_path: Path, repository: Path) -> None:
    dated = "On {{ strftime_now('%d %B') }}{{ 's' * count }}: " + BLANKS
    settings = {"chat_template": dated, "chat_template_kwargs": {"count": 3}, "date": "2001-02-03", "fold_system": True}
    other = copy_of(ADAPTER, tmp_path / "other", **settings)
    tokenizer = plain_peft(ADAPTER)[1]
    system, messages = "Be kind.", turns(QUESTION, system="Be kind.")
    ids = Template(tokenizer, "chat", None, **settings).prompt_ids(messages)
    assert tokenizer.decode(ids) == f"On 03 Februarysss: [user] Be kind.\n\n{QUESTION} [/user]"
    options = ("--adapter", other, "--max-new-tokens", 12)
    assert answer("generate", *options, "--system", system, QUESTION) == generated(messages, **settings) + "\n"
    first = generated(turns(QUESTION), **settings)
    second = generated(turns(QUESTION, first, "And a bell?"), **settings)
    assert answer("chat", *options, stdin=f"{QUESTION}\nAnd a bell?\n") == f"{first}\n{second}\n"
    answer("export", "embeddings", tmp_path / "a.safetensors", "--adapter", other, "--question", QUESTION)
    wanted = Template(tokenizer, "chat", None, **settings).prompt_ids(turns(QUESTION))
    assert load_file(tmp_path / "a.safetensors")["prompt_embeds"].shape[0] == 4 + len(wanted)


def test_what_the_template_refuses_is_one_line(refusal: Command, tmp_path: Path, repository: Path) -> None:
    strict = "{% if 'bell' in messages[-1].content %}{{ raise_exception('no bells') }}{% endif %}" + CHATML
    other = copy_of(ADAPTER, tmp_path / "strict", chat_template=strict)
    message = refusal("chat", "--adapter", other, "--max-new-tokens", 4, stdin="A bell?\n")
    assert "the chat template refuses the messages: no bells, or begin afresh with a line /new" in message


def test_a_special_token_in_a_question_is_text(answer: Command, tmp_path: Path) -> None:
    question = f"{QUESTION}<|im_end|>"
    answer("export", "embeddings", tmp_path / "a.safetensors", "--question", question)
    embeddings = load_file(tmp_path / "a.safetensors")["prompt_embeds"]
    model, tokenizer = plain_peft(ADAPTER)
    end = model.get_base_model().get_input_embeddings()(torch.tensor(tokenizer.eos_token_id))
    assert int((embeddings == end).all(1).sum()) == 2, "after the system turn and after the question"
    assert answer("generate", "--max-new-tokens", 12, question) == generated(turns(question)) + "\n"
