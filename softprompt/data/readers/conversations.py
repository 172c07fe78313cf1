"""A conversation as `messages`: turns of {role, content}, or ShareGPT's {from, value}."""

from typing import Any

from softprompt.data.rows import Message
from softprompt.runtime.errors import InputError
from softprompt.runtime.text import is_text

ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}


def conversation(place: str, turns: Any) -> list[Message]:
    """The turns of `turns` up to the assistant's last: what follows it has no answer.

    Raises:
        InputError: if they are no conversation, or one in which the assistant answers nothing; begins with `place`.
    """
    if not isinstance(turns, list) or not turns:
        raise InputError(f"{place}: not a list of turns (with role and content, or from and value)")
    messages = [_message(f"{place}, turn {number}", turn) for number, turn in enumerate(turns, start=1)]
    roles = [message["role"] for message in messages]
    if "system" in roles[1:]:
        raise InputError(f"{place}, turn {roles.index('system', 1) + 1}: a system turn can only be the first")
    if "assistant" not in roles:
        raise InputError(f"{place}: no turn of the assistant (assistant, gpt)")
    if "user" not in roles[: roles.index("assistant")]:
        raise InputError(f"{place}: the assistant speaks before any user (user, human) has")
    last = len(roles) - roles[::-1].index("assistant")
    return messages[:last]


def _message(place: str, turn: Any) -> Message:
    if not isinstance(turn, dict):
        raise InputError(f"{place}: not an object with role and content, or from and value")
    role = turn.get("role") if turn.get("role") is not None else turn.get("from")
    content = turn.get("content") if turn.get("content") is not None else turn.get("value")
    if not isinstance(role, str) or role.lower() not in ROLES:
        raise InputError(f"{place}: the role is {role!r}; allowed: {', '.join(ROLES)}")
    if not isinstance(content, str) or not is_text(content):
        raise InputError(f"{place}: its content is not text")
    return {"role": ROLES[role.lower()], "content": content}
