"""A conversation as `messages`, whatever its turns are called: OpenAI's, ShareGPT's, XTuner's and Firefly's forms."""

import json
from collections.abc import Iterable
from typing import Any

from softprompt.data.readers.faults import BadRowError, shown
from softprompt.data.rows import Message
from softprompt.runtime.text import is_text

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "ai": "assistant",
}
TOOL_ROLES = ("tool", "function", "function_call", "observation", "ipython", "tool_call", "tool_response")
SPEAKER, SAID = ("role", "from"), ("content", "value")
# A turn that is a pair: what was asked and what was answered.
PAIRS = (("instruction", "output"), ("input", "output"), ("human", "assistant"), ("question", "answer"))
THOUGHT = ("reasoning_content", "thinking")
LEARNT = ("weight", "train", "loss")  # whether an answer is learnt: 0 or 1, false or true


def conversation(value: Any, unused: set[str]) -> list[Message]:
    """The turns of `value`: a list of turns or pairs, an object of lists, or either of them as JSON text.

    Args:
        value: the cell.
        unused: names of a turn's keys that are not used are added to it.

    Raises:
        BadRowError: if they are no conversation.
    """
    turns = from_json(value)
    if isinstance(turns, dict):
        turns = _transposed(turns)
    if not isinstance(turns, list) or not turns:
        raise BadRowError("no_turns", "not a list of turns (with role and content, or from and value)")
    messages = [message for number, turn in enumerate(turns, start=1) for message in _messages(number, turn, unused)]
    first, *later = messages
    # Of pairs each may repeat the system's text.
    later = [message for message in later if message["role"] != "system" or message != first]
    if any(message["role"] == "system" for message in later):
        raise BadRowError("late_system_turn", "a turn of the system is not the first, as it has to be")
    return [first, *later]


def answered(messages: list[Message]) -> tuple[list[Message], str]:
    """`messages` from the first user turn (and the system's) to the last answer, and what was left out ("": nothing).

    Raises:
        BadRowError: if no answer to a user is left, or none that is to be learnt.
    """
    system = [message for message in messages[:1] if message["role"] == "system"]
    turns = messages[len(system) :]
    roles = [message["role"] for message in turns]
    if "assistant" not in roles:
        raise BadRowError("no_answer", "no turn of the assistant (assistant, gpt)")
    first = roles.index("user") if "user" in roles else len(roles)
    last = len(roles) - roles[::-1].index("assistant")
    if first >= last:
        raise BadRowError("no_question", "no turn of the user (user, human) before an answer")
    if all(message.get("weight") == 0 for message in turns[first:last] if message["role"] == "assistant"):
        raise BadRowError("nothing_to_learn", "every answer has the weight 0")
    notes = [*(["leading_answer"] if first else []), *(["unanswered_end"] if last < len(roles) else [])]
    return system + turns[first:last], " ".join(notes)


def weight_of(value: Any) -> int | None:
    """0 or 1 of a weight; None of none.

    Raises:
        BadRowError: if it is something else.
    """
    if value is None:
        return None
    text = str(value).strip().lower()
    if text in ("", "nan"):
        return None
    if text in ("0", "0.0", "false"):
        return 0
    if text in ("1", "1.0", "true"):
        return 1
    raise BadRowError("weight", f"a weight of {shown(value)}; allowed: 0 and 1")


def text_of(value: Any, what: str) -> str:
    """Text, or a list of text parts as one; of nothing, the empty text.

    Raises:
        BadRowError: if it is something else.
    """
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(part, dict) and is_text(part.get("text")) for part in value):
        return "".join(part["text"] for part in value)
    if not is_text(value):
        raise BadRowError("not_text", f"{what} holds {shown(value)}, not text")
    return value


def _messages(number: int, turn: Any, unused: set[str]) -> Iterable[Message]:
    place, turn = f"turn {number}", from_json(turn)
    if not isinstance(turn, dict):
        raise BadRowError("no_turns", f"{place} is {shown(turn)}; allowed: an object with role and content")
    turn = {key: value for key, value in turn.items() if value is not None or key in SAID}
    if turn.get("tool_calls") or turn.get("function_call"):
        raise BadRowError("tool_turn", f"{place} calls a tool, which is not trained on")
    messages, used = _pair(place, turn) if not any(name in turn for name in SPEAKER) else _turn(place, turn)
    unused.update(key for key, cell in turn.items() if cell is not None and key not in used)
    return messages


def _turn(place: str, turn: dict[str, Any]) -> tuple[list[Message], set[str]]:
    """The message of a turn, and the keys that it was made of."""
    speaker = next(name for name in SPEAKER if name in turn)
    role, said = turn[speaker], [name for name in SAID if name in turn]
    name = str(role).lower()
    if name in TOOL_ROLES:
        raise BadRowError("tool_turn", f"{place} is a tool's ({role}), which is not trained on")
    if name not in ROLES:
        raise BadRowError("unknown_role", f"{place} has the role {shown(role)}; allowed: {', '.join(ROLES)}")
    if not said:
        raise BadRowError(
            "no_content", f"{place} has the keys {', '.join(turn)}; allowed for what is said: {' and '.join(SAID)}"
        )
    content = next((turn[name] for name in said if turn[name] is not None), None)
    message, used = _message(place, ROLES[name], content, turn)
    return [message], {speaker, *said, *used}


def _pair(place: str, turn: dict[str, Any]) -> tuple[list[Message], set[str]]:
    """The messages of a question with its answer, and the keys that they were made of."""
    asked, said = next(
        ((question, answer) for question, answer in PAIRS if question in turn and answer in turn), ("", "")
    )
    if not asked:
        raise BadRowError(
            "unknown_role",
            f"{place} has the keys {', '.join(turn) or 'none'}; allowed: role and content, from and value, "
            f"{', '.join(f'{question} and {answer}' for question, answer in PAIRS)}",
        )
    texts = [text_of(turn.get("system"), f"{place}'s system"), text_of(turn[asked], f"{place}'s {asked}")]
    keys = {"system", asked, said}
    if asked == "instruction" and (input := text_of(turn.get("input"), f"{place}'s input")):
        keys.add("input")
        texts[1] = f"{texts[1]}\n{input}"
    answer, used = _message(place, "assistant", turn[said], turn)
    asking = [{"role": role, "content": text} for role, text in zip(("system", "user"), texts, strict=True) if text]
    return [*asking, answer], keys | used


def _message(place: str, role: str, content: Any, turn: dict[str, Any]) -> tuple[Message, set[str]]:
    """A message of this content, and the other keys that it was made of."""
    message: Message = {"role": role, "content": text_of(content, f"{place}'s content")}
    if role != "assistant":
        return message, set()
    if thought := next((turn[name] for name in THOUGHT if name in turn), None):
        message["reasoning_content"] = text_of(thought, f"{place}'s thought")
    learnt = {name: weight for name in LEARNT if (weight := weight_of(turn.get(name))) is not None}
    if len(set(learnt.values())) > 1:
        raise BadRowError("weight", f"{place} says both, to learn it and not to: {', '.join(learnt)}")
    if learnt:
        message["weight"] = next(iter(learnt.values()))
    return message, {*THOUGHT, *LEARNT}


def _transposed(lists: dict[str, Any]) -> list[Any]:
    """An object of lists, one item a turn: what a `Sequence` of objects was in older `datasets`."""
    columns = {name: column for name, column in lists.items() if column is not None}
    if not columns or not all(isinstance(column, list) for column in columns.values()):
        return [lists]
    if len({len(column) for column in columns.values()}) > 1:
        raise BadRowError("no_turns", f"the lists {', '.join(columns)} have different lengths")
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


def from_json(value: Any) -> Any:
    """What JSON text holds: some tables keep turns so. Anything else is left as it is."""
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value
