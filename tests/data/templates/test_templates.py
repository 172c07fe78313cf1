"""One formatter, pinned to the letter: with and without input, chat and literal, whole and truncated."""

from pathlib import Path

import pytest

from softprompt.data.rows import make_row
from softprompt.data.templates import Encoded, Template
from softprompt.data.tokens import IGNORED
from softprompt.runtime.errors import InputError

ROW = make_row("Add the numbers.", "1, 2", "3", source="s")
PLAIN = make_row("What is fog?", "", "Fog is a cloud.", source="s")


@pytest.fixture(scope="module")
def tokenizer(toy_model: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(toy_model)


def encoded(template: Template, row: dict, max_length: int = 512) -> tuple[str, str, Encoded]:
    """What the model reads, what it is scored on, and the tokens."""
    (result,) = template.encode([row], max_length)
    assert isinstance(result, Encoded)
    assert len(result.input_ids) == len(result.labels)
    labels = [label for label in result.labels if label != IGNORED]
    assert result.labels == [IGNORED] * (len(result.labels) - len(labels)) + labels, "labels are the end of the row"
    assert labels == result.input_ids[len(result.input_ids) - len(labels) :]
    return template.tokenizer.decode(result.input_ids), template.tokenizer.decode(labels), result


def test_chat_template(tokenizer) -> None:
    text, answer, _ = encoded(Template(tokenizer, "chat", None), ROW)
    assert text == (
        "<|im_start|>system\nYou are a toy.<|im_end|>\n<|im_start|>user\nAdd the numbers.\n1, 2<|im_end|>\n"
        "<|im_start|>assistant\n3<|im_end|>"
    )
    assert answer == "3<|im_end|>"


def test_chat_template_with_a_system_text(tokenizer) -> None:
    text, answer, _ = encoded(Template(tokenizer, "chat", "Be brief."), PLAIN)
    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is fog?<|im_end|>\n"
        "<|im_start|>assistant\nFog is a cloud.<|im_end|>"
    )
    assert answer == "Fog is a cloud.<|im_end|>"


def test_what_is_scored_is_what_the_chat_template_writes(tokenizer) -> None:
    text, _, _ = encoded(Template(tokenizer, "chat", None), PLAIN)
    assert tokenizer.apply_chat_template(PLAIN["messages"], tokenize=False) == f"{text}\n"


@pytest.mark.parametrize(
    ("text", "row", "expected"),
    [
        ("English: '{instruction}' | German: ", PLAIN, "English: 'What is fog?' | German: Fog is a cloud.<|im_end|>"),
        ("Q: {instruction}\nA: ", ROW, "Q: Add the numbers.\n1, 2\nA: 3<|im_end|>"),
        ("{instruction} [{input}] {{x}} ", ROW, "Add the numbers. [1, 2] {x} 3<|im_end|>"),
        ("{{input}} {instruction} => ", ROW, "{input} Add the numbers.\n1, 2 => 3<|im_end|>"),
        ("{instruction} [{input}] ", PLAIN, "What is fog? [] Fog is a cloud.<|im_end|>"),
    ],
)
def test_literal_template(tokenizer, text: str, row: dict, expected: str) -> None:
    assert encoded(Template(tokenizer, text, None), row)[0] == expected


def test_braces_in_a_row_are_text(tokenizer) -> None:
    row = make_row("Print {input} and {0}", "", "{instruction}", source="s")
    assert (
        encoded(Template(tokenizer, "{instruction} => ", None), row)[0]
        == "Print {input} and {0} => {instruction}<|im_end|>"
    )


def test_max_length_cuts_the_answer_and_never_the_question(tokenizer) -> None:
    template = Template(tokenizer, "chat", None)
    _, _, whole = encoded(template, PLAIN)
    length, question = len(whole.input_ids), whole.labels.count(IGNORED)
    assert not whole.truncated
    _, answer, exact = encoded(template, PLAIN, length)
    assert exact == whole
    _, answer, truncated = encoded(template, PLAIN, length - 1)
    assert truncated.truncated
    assert answer == "Fog is a cloud.", "a truncated answer carries no end token"
    _, _, one = encoded(template, PLAIN, question + 1)
    assert one.labels.count(IGNORED) == question
    assert list(template.encode([PLAIN], question)) == [question], "no room for a label: the row's length comes back"


TALK = {
    "messages": [
        {"role": "user", "content": "What is fog?"},
        {"role": "assistant", "content": "A cloud."},
        {"role": "user", "content": "And dew?"},
        {"role": "assistant", "content": "Water."},
    ],
    "input": "",
}


def labelled(template: Template, row: dict, max_length: int = 512) -> tuple[str, list[str], Encoded]:
    """What the model reads, each stretch of labels, and the tokens."""
    (result,) = template.encode([row], max_length)
    assert isinstance(result, Encoded)
    stretches: list[list[int]] = [[]]
    for token, label in zip(result.input_ids, result.labels, strict=True):
        assert label in (IGNORED, token)
        if label != IGNORED:
            stretches[-1].append(label)
        elif stretches[-1]:
            stretches.append([])
    return (
        template.tokenizer.decode(result.input_ids),
        [template.tokenizer.decode(ids) for ids in stretches if ids],
        result,
    )


def test_every_answer_of_a_conversation_is_labelled(tokenizer) -> None:
    text, answers, whole = labelled(Template(tokenizer, "chat", None), TALK)
    assert f"{text}\n" == tokenizer.apply_chat_template(TALK["messages"], tokenize=False)
    assert answers == ["A cloud.<|im_end|>", "Water.<|im_end|>"]
    assert not whole.truncated


def test_a_conversation_under_a_literal_template(tokenizer) -> None:
    text, answers, _ = labelled(Template(tokenizer, "Q: {instruction} A: ", None), TALK)
    assert text == "Q: What is fog? A: A cloud.<|im_end|>Q: And dew? A: Water.<|im_end|>"
    assert answers == ["A cloud.<|im_end|>", "Water.<|im_end|>"]


def test_a_conversation_is_cut_like_a_row(tokenizer) -> None:
    template = Template(tokenizer, "chat", None)
    _, _, whole = labelled(template, TALK)
    _, answers, truncated = labelled(template, TALK, len(whole.input_ids) - 1)
    assert truncated.truncated
    assert answers == ["A cloud.<|im_end|>", "Water."]
    first = whole.labels.count(IGNORED) - sum(1 for label in whole.labels[-30:] if label == IGNORED)
    assert first > 0
    assert isinstance(next(iter(template.encode([TALK], 5))), int), "no room for the first answer"


def test_a_rows_own_system_turn_comes_before_the_params(tokenizer) -> None:
    row = {"messages": [{"role": "system", "content": "Be kind."}, *TALK["messages"]], "input": ""}
    text, _, _ = labelled(Template(tokenizer, "chat", "Be brief."), row)
    assert text.startswith("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user")
    assert "Be brief." not in text
    with pytest.raises(InputError, match="literal text has no place for the rows' system turns"):
        labelled(Template(tokenizer, "{instruction} => ", None), row)


def test_batches_are_the_rows_one_by_one(tokenizer) -> None:
    template = Template(tokenizer, "chat", None)
    assert list(template.encode([ROW, PLAIN], 512)) == [*template.encode([ROW], 512), *template.encode([PLAIN], 512)]


def test_the_end_token_is_the_chat_templates_own(tokenizer) -> None:
    """Some models end a turn with another token than the tokenizer's eos_token."""
    import copy

    other = copy.deepcopy(tokenizer)
    other.eos_token = "<|endoftext|>"
    assert Template(other, "chat", None).end_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert Template(other, "{instruction}", None).end_id == tokenizer.convert_tokens_to_ids("<|endoftext|>")


def test_a_template_that_the_model_can_not_use_is_refused(tokenizer) -> None:
    import copy

    plain = copy.deepcopy(tokenizer)
    plain.chat_template = None
    with pytest.raises(InputError, match="no chat template; write a literal one"):
        Template(plain, "chat", None)
    strict = copy.deepcopy(tokenizer)
    strict.chat_template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    with pytest.raises(InputError, match="refuses the messages: no system turn"):
        Template(strict, "chat", "Be brief.")
    endless = copy.deepcopy(tokenizer)
    endless.eos_token = None
    with pytest.raises(InputError, match="no end token"):
        Template(endless, "{instruction}", None)
