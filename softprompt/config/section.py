"""What every section of params.yaml has in common: unknown keys are faults, and nothing is coerced."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from softprompt.runtime.secrets import has_userinfo
from softprompt.runtime.text import is_text


def _is_public(source: str) -> str:
    if has_userinfo(source):
        raise ValueError(
            "an address without user name and password, which params.yaml and dvc.lock would keep; the environment can "
            """hold them, such as FSSPEC_HTTPS='{"client_kwargs": {"headers": {"Authorization": "…"}}}'"""
        )
    return source


Source = Annotated[str, Field(min_length=1), AfterValidator(_is_public)]


def has_line_breaks(text: str) -> str:
    """Refuse a backslash followed by n.

    Raises:
        ValueError: with how a line break is written.
    """
    # The command line does that: neither the shell nor DVC makes a line break of it.
    if "\\n" in text:
        raise ValueError(
            r"text without a backslash followed by n, which is no line break here; params.yaml takes one in double "
            r"""quotes ("\n"), the shell as $'…\n…'"""
        )
    return text


Text = Annotated[str, AfterValidator(has_line_breaks)]  # what a model reads
Positive = Annotated[int, Field(ge=1, le=2**31 - 1)]


def _is_revision(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}", text):
        raise ValueError("a commit, a tag or a branch (null where the source is no hub's, or for its default branch)")
    return text


Revision = Annotated[str, AfterValidator(_is_revision)]


def _is_checksum(value: Any) -> Any:
    digits = "64 hexadecimal digits in lower case"
    if isinstance(value, dict):
        for source, checksum in value.items():
            if not isinstance(source, str) or not _is_sha256(checksum):
                raise ValueError(f"{digits} of each source, and {source!r} has {checksum!r}")
            _is_public(source)
    elif value is not None and not _is_sha256(value):
        raise ValueError(f"{digits}, a mapping from sources to such digits, or null")
    return value


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


# Of the source that is named, or by source: one that the mapping doesn't name is not checked.
Checksum = Annotated[str | dict[str, str] | None, BeforeValidator(_is_checksum)]


class Section(BaseModel):
    """A section of params.yaml: strict types, no unknown keys, no change after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def is_unicode(cls, value: Any) -> Any:
        """Refuse half a surrogate pair, which no tokenizer and no file takes."""
        texts = value if isinstance(value, list) else [value]
        if any(isinstance(text, str) and not is_text(text) for text in texts):
            raise ValueError("text without unpaired surrogates (\\ud800 to \\udfff)")
        return value
