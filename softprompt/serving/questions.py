"""What a request asks, as token ids that come after the virtual tokens."""

from typing import TYPE_CHECKING, Any

from softprompt.config.faults import shown
from softprompt.data.rows import Message, clean
from softprompt.data.templates import CHAT
from softprompt.data.tokens import beginning_ids, check_embedded
from softprompt.runtime.errors import InputError
from softprompt.runtime.text import is_text
from softprompt.serving.refusals import RefusedError

if TYPE_CHECKING:
    from softprompt.evaluation.variants import Variants

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


def chat_question(variants: "Variants", messages: list[Any]) -> list[int]:
    """Token ids of a conversation in the template of the adapter's training.

    Texts are cleaned as those of the training were. What the template writes around earlier answers is taken off them.

    Raises:
        RefusedError: if it is no conversation that ends with the user's turn, or the template doesn't take it.
    """
    turns = [_turn(f"messages[{place}]", message) for place, message in enumerate(messages)]
    if not turns or turns[-1]["role"] != "user":
        raise RefusedError("messages: the last one has to be the user's", param="messages")
    _check_characters(variants, sum(len(turn["content"]) for turn in turns), "messages")
    template = variants.template
    if template.settings["template"] != CHAT and sum(turn["role"] != "system" for turn in turns) > 1:
        raise RefusedError(
            "messages: the adapter was tuned with a literal template (tokenize.template), which has no turns; allowed: "
            "one of the user's",
            param="messages",
        )
    for turn in turns:
        if turn["role"] == "assistant":
            turn["content"] = template.content_of(turn["content"])
    try:
        return variants.question_ids(turns)
    except InputError as error:
        raise RefusedError(f"messages: {error}", param="messages") from None


def text_question(variants: "Variants", prompt: str) -> list[int]:
    """Token ids of a text as it is, without a template; special tokens that it spells are special tokens.

    Raises:
        RefusedError: if it is empty, or the model has no embedding of a token.
    """
    _check_characters(variants, len(prompt), "prompt")
    tokenizer = variants.tokenizer
    beginning, ids = beginning_ids(tokenizer), tokenizer(prompt, add_special_tokens=False)["input_ids"]
    if not ids:
        raise RefusedError("prompt: empty; allowed: at least one token", param="prompt")
    try:
        check_embedded(ids, tokenizer, variants.model.frozen.config, "prompt")
    except InputError as error:
        raise RefusedError(str(error), param="prompt") from None
    return ids if ids[: len(beginning)] == beginning else beginning + ids


def _check_characters(variants: "Variants", characters: int, param: str) -> None:
    """Refuse what has too many tokens however long each is, without the time that making them takes."""
    most = variants.context
    if characters > most and characters > most * max(map(len, variants.tokenizer.get_vocab())):
        raise RefusedError(
            f"{param}: {characters} characters are more than the {most} tokens of the model's context can hold; ask "
            " a shorter question",
            param=param,
            code="context_length_exceeded",
        )


def _turn(what: str, message: Any) -> Message:
    if not isinstance(message, dict):
        raise RefusedError(f"{what}: no JSON object", param="messages")
    given = {name: value for name, value in message.items() if value is not None}
    if unknown := sorted(given.keys() - {"role", "content"}):
        raise RefusedError(f"{what}.{unknown[0]}: not supported; allowed: role and content", param="messages")
    role = given.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise RefusedError(f"{what}.role: {shown(role)} is not allowed; allowed: {', '.join(ROLES)}", param="messages")
    text = _text(f"{what}.content", given.get("content"))
    return {"role": ROLES[role], "content": text if role == "assistant" else clean(text)}


def _text(what: str, content: Any) -> str:
    """A text, or the texts of a list of parts, a line each."""
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in parts]
    if not texts or not all(is_text(text) for text in texts):
        raise RefusedError(f'{what}: allowed: a text, or a list of {{"type": "text", "text": …}}', param="messages")
    if not (text := "\n".join(map(str, texts))).strip():
        raise RefusedError(f"{what}: empty; allowed: at least one character", param="messages")
    return text
