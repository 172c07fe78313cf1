"""`tokenize` in params.yaml: how a row becomes tokens."""

from string import Formatter
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from softprompt.config.section import Section

PLACEHOLDERS = ("instruction", "input")


class Tokenize(Section):
    """See params.yaml for the meaning of each key."""

    template: str
    system: str | None
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

    @field_validator("system")
    @classmethod
    def goes_with_a_chat_template(cls, system: str | None, info: ValidationInfo) -> str | None:
        """Refuse a system text where nothing would use it."""
        if system is not None and info.data.get("template", "chat") != "chat":
            raise ValueError("null where tokenize.template is literal text: write the system text into the template")
        return system
