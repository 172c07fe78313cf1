"""What is trained is what the chat template itself writes, of templates of every kind, or a refusal says why not."""

import copy
from pathlib import Path
from typing import Any

import pytest

from softprompt.data.templates import Encoded, Template
from softprompt.data.templates.chat import REWRITTEN, UNWRITTEN
from softprompt.data.templates.rendering import RowError
from softprompt.data.tokens import IGNORED
from softprompt.runtime.errors import InputError

TURN = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
EACH, HEADER = "{% for m in messages %}", "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
BLANKS = (
    EACH + "{% if m.role == 'assistant' %}{{ ' ' ~ m.content ~ ' ' ~ eos_token }}"
    "{% else %}{{ '[INST] ' ~ m.content ~ ' [/INST]' }}{% endif %}{% endfor %}"
)
PLAIN = EACH + TURN + "{% endfor %}" + HEADER
WITHOUT_HEADER = EACH + TURN + "{% endfor %}"
# Thoughts of the last answer alone, and an empty one where a thought was not wanted: as Qwen3's.
THINKING = (
    EACH + "<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}<think>\n"
    "{{ m.reasoning_content or '' }}\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}" + HEADER + ""
    "{% if add_generation_prompt and enable_thinking is defined and not enable_thinking %}"
    "<think>\n\n</think>\n\n{% endif %}"
)
OPENING = (
    EACH
    + "<|im_start|>{{ m.role }}\n{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}" + HEADER + "{% if add_generation_prompt %}<think>\n{% endif %}"
)
WITHOUT_END = EACH + "{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
OTHER_LAST_END = (
    EACH
    + "<|im_start|>{{ m.role }}\n{{ m.content }}"
    + "{{ '<|im_end|>' if loop.last or m.role == 'user' else '<|endoftext|>' }}\n{% endfor %}"
    + HEADER
)
TRIMMING = EACH + "<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}" + HEADER
TALK = ("What is fog?", "A cloud.", "And dew?", "Water.")


def talk(*contents: str, **of_answers: Any) -> list[dict[str, Any]]:
    """Turns by turns, as parquet gives them: with every key."""
    nothing = {"reasoning_content": None, "weight": None}
    users = [{"role": "user", "content": text, **nothing} for text in contents[::2]]
    answers = [{"role": "assistant", "content": text, **nothing, **of_answers} for text in contents[1::2]]
    return [turn for pair in zip(users, answers, strict=True) for turn in pair]


@pytest.fixture(scope="module")
def tokenizer(toy_model: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(toy_model)


def template_of(tokenizer, jinja: str, **settings: Any) -> Template:
    own = copy.deepcopy(tokenizer)
    own.chat_template = jinja
    return Template(own, "chat", None, **settings)


def learnt(template: Template, messages: list[dict[str, Any]]) -> tuple[list[str], Encoded]:
    """Each stretch of labels as text, of a row whose tokens must spell what the template writes."""
    (row,) = template.encode([{"messages": messages, "input": ""}], None)
    assert isinstance(row, Encoded), row
    given = [{key: turn[key] for key in turn if key != "weight"} for turn in messages]
    written = template.tokenizer.apply_chat_template(given, tokenize=False, **template.settings["chat_template_kwargs"])
    text = template.tokenizer.decode(row.input_ids)
    assert written.startswith(text) or written == text.removesuffix(template.tokenizer.eos_token) + "\n"
    # In generation the model gets what it was trained behind, to the token.
    prompt = template.prompt_ids(messages[: template.first_answer(messages)])
    assert row.input_ids[: len(prompt)] == prompt
    assert row.labels[: len(prompt) + 1] == [IGNORED] * len(prompt) + row.input_ids[len(prompt) : len(prompt) + 1]
    last = template.prompt_ids(messages[:-1])
    assert row.input_ids[: len(last)] == last[: len(row.input_ids)]
    stretches, of_label = list[list[int]](), False
    for label in row.labels:
        if label != IGNORED and not of_label:
            stretches.append([])
        of_label = label != IGNORED
        if of_label:
            stretches[-1].append(label)
    return [template.tokenizer.decode(ids) for ids in stretches], row


def refused(template: Template, messages: list[dict[str, Any]]) -> RowError:
    (row,) = template.encode([{"messages": messages, "input": ""}], None)
    assert isinstance(row, RowError)
    return row


@pytest.mark.parametrize(
    ("jinja", "answers"),
    [
        (PLAIN, ["A cloud.<|im_end|>", "Water.<|im_end|>"]),
        (BLANKS, [" A cloud. <|im_end|>", " Water. <|im_end|>"]),
        (WITHOUT_HEADER, ["A cloud.<|im_end|>", "Water.<|im_end|>"]),
        (TRIMMING, ["A cloud.<|im_end|>", "Water.<|im_end|>"]),
        (OTHER_LAST_END, ["Water.<|im_end|>"]),
        (WITHOUT_END, ["Water.<|im_end|>"]),
        (THINKING, ["<think>\n\n</think>\n\nWater.<|im_end|>"]),
    ],
)
def test_every_answer_that_stays_as_it_was_is_learnt(tokenizer, jinja: str, answers: list[str]) -> None:
    template = template_of(tokenizer, jinja)
    found, row = learnt(template, talk(*TALK))
    assert found == answers
    assert (REWRITTEN in row.remarks) == (len(answers) == 1)
    assert learnt(template, talk(*TALK[:2]))[0] == [answers[-1].replace("Water.", "A cloud.")]


def test_what_is_around_an_answer_is_no_part_of_it(tokenizer) -> None:
    assert template_of(tokenizer, BLANKS).content_of(" A cloud. ") == "A cloud."
    assert template_of(tokenizer, THINKING).content_of("<think>\n\n</think>\n\nA cloud.") == "A cloud."
    assert template_of(tokenizer, PLAIN).content_of(" A cloud. ") == " A cloud. "


def test_variables_of_the_template(tokenizer) -> None:
    template = template_of(tokenizer, THINKING, chat_template_kwargs={"enable_thinking": False})
    assert learnt(template, talk(*TALK[:2]))[0] == ["A cloud.<|im_end|>"]
    assert template.tokenizer.decode(template.prompt_ids(talk(*TALK)[:1])).endswith("</think>\n\n")
    with pytest.raises(InputError, match="has no variable 'enable_thinkin'"):
        template_of(tokenizer, THINKING, chat_template_kwargs={"enable_thinkin": False})


def test_a_thought_that_is_opened_has_to_be_closed(tokenizer) -> None:
    template = template_of(tokenizer, OPENING)
    messages = talk(*TALK[:2])
    assert "opens a thought that the answer does not close with </think>" in refused(template, messages).reason
    assert "enable_thinking: false" in refused(template, messages).reason
    messages[1]["reasoning_content"] = "Think of water."
    assert learnt(template, messages)[0] == ["Think of water.\n</think>\nA cloud.<|im_end|>"]
    messages[0]["content"] = "What does <think> do?"
    assert learnt(template_of(tokenizer, PLAIN), [messages[0], talk(*TALK[:2])[1]])[0] == ["A cloud.<|im_end|>"]


def test_a_thought_that_is_learnt_though_no_row_has_one_is_told(tokenizer) -> None:
    """Also where the prompt opens it, and the conversation closes it at once: as Qwen3.5's."""
    opening = THINKING + "{% if add_generation_prompt %}<think>\n{% endif %}"
    for jinja, answer in ((THINKING, "<think>\n\n</think>\n\nA cloud."), (opening, "\n</think>\n\nA cloud.")):
        template = template_of(tokenizer, jinja)
        answers, row = learnt(template, talk(*TALK[:2]))
        assert answers == [f"{answer}<|im_end|>"]
        assert ["is learnt with the answer" in remark for remark in row.remarks] == [True]
        assert template.content_of(answer) == "A cloud."
        assert learnt(template, talk(*TALK[:2], reasoning_content="Water."))[1].remarks == ()


def test_a_thought_that_the_template_leaves_out_is_told(tokenizer) -> None:
    messages = talk(*TALK[:2], reasoning_content="Think of water.")
    assert learnt(template_of(tokenizer, THINKING), messages)[1].remarks == ()
    assert learnt(template_of(tokenizer, PLAIN), messages)[1].remarks == (UNWRITTEN,)


def test_a_prompt_that_is_not_the_conversations_is_shown(tokenizer) -> None:
    jinja = PLAIN.replace("{% if add", "{% if add_generation_prompt %}<|im_start|>bot\n{% elif add")
    refusal = refused(template_of(tokenizer, jinja), talk(*TALK[:2]))
    assert refusal.reason.startswith("the chat template writes no answer after its own prompt")
    assert "bot" in refusal.detail
    assert "assistant" in refusal.detail


def test_turns_of_weight_0_are_context(tokenizer) -> None:
    messages = talk(*TALK)
    messages[1]["weight"], messages[3]["weight"] = 0, 1
    template = template_of(tokenizer, BLANKS)
    assert learnt(template, messages)[0] == [" Water. <|im_end|>"]
    assert template.first_answer(messages) == 3
    messages[1]["weight"], messages[3]["weight"] = 1, 0
    assert learnt(template, messages)[1].input_ids == learnt(template, messages[:2])[1].input_ids, "nothing after it"
    messages[1]["weight"] = 0
    assert "weight 0" in refused(template, messages).reason


def test_the_date_is_the_one_that_is_set(tokenizer) -> None:
    jinja = (
        "{{ strftime_now('%d %b %Y, %-d, %H:%M:%S, %%d') }}\n  {% if strftime_now is defined %}\n!{% endif %}" + PLAIN
    )
    for date, shown in (
        ("2025-03-09", "09 Mar 2025, 9, 00:00:00, %d"),
        ("2026-12-31", "31 Dec 2026, 31, 00:00:00, %d"),
    ):
        ids = template_of(tokenizer, jinja, date=date).prompt_ids(talk(*TALK)[:1])
        assert tokenizer.decode(ids).startswith(f"{shown}\n!<|im_start|>user")


def test_a_frozen_date_changes_nothing_else_of_a_template(tokenizer) -> None:
    """White space around the first line is treated as by the template's engine where nothing comes before it."""
    for start in ("\n\nhi ", "  {% if true %}\nhi {% endif %}", "{#- a comment #}\n\nhi ", "{%- set a = 1 %}\n hi "):
        own = copy.deepcopy(tokenizer)
        own.chat_template = start + "{% if false %}{{ strftime_now('%Y') }}{% endif %}" + PLAIN
        written = own.apply_chat_template(talk(*TALK), tokenize=False)
        assert own.decode(Template(own, "chat", None).prompt_ids([*talk(*TALK), talk("x", "y")[0]])).startswith(written)


def test_a_template_of_ones_own_and_what_is_recorded(tokenizer) -> None:
    template = Template(tokenizer, "chat", None, chat_template=BLANKS)
    assert learnt(template_of(tokenizer, BLANKS), talk(*TALK[:2]))[1] == next(
        template.encode([{"messages": talk(*TALK[:2]), "input": ""}], None)
    )
    assert template.settings["chat_template"] == BLANKS
    assert Template(tokenizer, "chat", None).settings["chat_template"] == tokenizer.chat_template
    assert Template(tokenizer, **template.settings).settings == template.settings
    with pytest.raises(InputError, match=r"tokenize.chat_template: no template in Jinja: .*endfor"):
        Template(tokenizer, "chat", None, chat_template=EACH)
    with pytest.raises(InputError, match="writes no answers"):
        Template(tokenizer, "chat", None, chat_template="{{ messages[0].content }}")


STRICT = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('turns have to alternate') }}{% endif %}{% endfor %}" + PLAIN
)


def test_a_strict_template_refuses_single_rows(tokenizer) -> None:
    template = template_of(tokenizer, STRICT)
    twice = [talk(*TALK)[0], *talk(*TALK[:2])]
    rows = [{"messages": messages, "input": ""} for messages in (talk(*TALK), twice, talk(*TALK[:2]))]
    first, refusal, last = template.encode(rows, None)
    assert isinstance(refusal, RowError)
    assert refusal.reason == "the chat template refuses the messages: turns have to alternate"
    assert isinstance(first, Encoded)
    assert isinstance(last, Encoded)
    with pytest.raises(RowError, match="turns have to alternate"):
        template.prompt_ids(twice[:2])


def test_a_system_turn_can_be_folded_into_the_question(tokenizer) -> None:
    system = {"role": "system", "content": "Be brief."}
    assert "no system turns" in refused(template_of(tokenizer, STRICT), [system, *talk(*TALK)]).reason
    folded = [{"role": "user", "content": "Be brief.\n\nWhat is fog?"}, *talk(*TALK)[1:]]
    wanted = template_of(tokenizer, STRICT).prompt_ids(folded[:3])
    own = copy.deepcopy(tokenizer)
    own.chat_template = STRICT
    with pytest.raises(InputError, match="fold_system: true"):
        Template(own, "chat", "Be brief.")
    assert Template(own, "chat", "Be brief.", fold_system=True).prompt_ids(talk(*TALK)[:3]) == wanted
    assert Template(own, "chat", "Other.", fold_system=True).prompt_ids([system, *talk(*TALK)[:3]]) == wanted
    lost = refused(Template(own, "chat", None, fold_system=True), [*talk(*TALK), system])
    assert "no question that it could be folded into" in lost.reason
    literal = Template(tokenizer, "Q: {instruction} A: ", None, fold_system=True)
    assert tokenizer.decode(literal.prompt_ids([system, talk(*TALK)[0]])) == "Q: Be brief.\n\nWhat is fog? A: "
