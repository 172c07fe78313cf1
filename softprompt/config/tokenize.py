"""`tokenize` in params.yaml: how a row becomes tokens."""

import json
from datetime import date
from string import Formatter
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from softprompt.config.section import Section, Text
from softprompt.runtime.text import is_text

PLACEHOLDERS = ("instruction", "input")
# Variables of a chat template that are not the user's to set.
RESERVED = {"messages", "conversation", "tools", "documents", "add_generation_prompt", "continue_final_message"}
RESERVED |= {"chat_template", "tokenize", "strftime_now"}


def _is_date(value: Any) -> str:
    # Without quotes YAML makes a date of it, which neither JSON nor dvc.lock would hold as it is here.
    try:
        return date.fromisoformat(value).isoformat()
    except (TypeError, ValueError):
        raise ValueError('a date in quotes, such as "2026-01-31"') from None


class Tokenize(Section):
    """See params.yaml for the meaning of each key."""

    template: Text
    chat_template: Annotated[str, Field(min_length=1)] | None
    chat_template_kwargs: dict[str, Any] | None
    system: Text | None
    fold_system: bool
    date: Annotated[str, BeforeValidator(_is_date)]
    max_length: Annotated[int, Field(ge=2, le=2**31 - 1)] | None

    @field_validator("template")
    @classmethod
    def has_known_placeholders(cls, template: str) -> str:
        """Refuse a literal template that could not be filled, or that would leave out the question."""
        allowed = "'chat', or text with {instruction} and, if wanted, {input} (a literal brace is written twice)"
        if template == "chat":
            return template
        try:
            fields = [(name, spec, conversion) for _, name, spec, conversion in Formatter().parse(template)]
        except ValueError as error:
            raise ValueError(f"{allowed}; {error}") from None
        named = [field for field in fields if field[0] is not None]
        for name, spec, conversion in named:
            if name not in PLACEHOLDERS:
                raise ValueError(f"{allowed}; {{{name}}} is not a placeholder")
            if spec or conversion:
                raise ValueError(f"{allowed}; {{{name}}} takes no format and no conversion (: or !)")
        if not any(name == "instruction" for name, _, _ in named):
            raise ValueError(allowed)
        return template

    @field_validator("chat_template", "chat_template_kwargs")
    @classmethod
    def has_a_chat_template(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse settings of a chat template where none is used."""
        if value and info.data.get("template", "chat") != "chat":
            raise ValueError("null where tokenize.template is literal text")
        return value

    @field_validator("chat_template_kwargs")
    @classmethod
    def is_of_a_template(cls, kwargs: dict[str, Any] | None) -> dict[str, Any] | None:
        """Refuse what a chat template gets from the pipeline, and what JSON can't hold."""
        if taken := RESERVED & (kwargs or {}).keys():
            raise ValueError(f"variables of the chat template, such as enable_thinking: false; not {min(taken)}")
        try:
            is_whole = is_text(json.dumps(kwargs, ensure_ascii=False, allow_nan=False))
        except (TypeError, ValueError):
            is_whole = False
        if not is_whole:
            raise ValueError("texts, numbers, true, false and null, and lists and mappings of them")
        return kwargs

    @field_validator("system")
    @classmethod
    def goes_with_a_chat_template(cls, system: str | None, info: ValidationInfo) -> str | None:
        """Refuse a system text where nothing would use it."""
        if system is not None and info.data.get("template", "chat") != "chat":
            raise ValueError("null where tokenize.template is literal text: write the system text into the template")
        return system
