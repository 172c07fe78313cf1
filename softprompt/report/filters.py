"""How numbers, and texts of the model and of the data, are shown. Escaping for HTML is jinja2's part."""

import re
import unicodedata
from typing import Any

MINUS = "\u2212"
NOTHING = "\u2013"  # shown for a value that was not measured
# They reorder text beyond themselves: an answer could show other words than it has.
BIDI_CONTROLS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
# `-`, `,`, `/` and most dots mean nothing inside a line; `www.` would become a link.
MARKDOWN = re.compile(r"(?<=www)\.|[!-+:-@\[-`{-~]", re.IGNORECASE)


def visible(text: str) -> str:
    """`text` with control characters, and those that change the direction of writing, as ⟨U+202E⟩."""
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    if character in "\n\t" or (unicodedata.category(character) not in ("Cc", "Cs") and character not in BIDI_CONTROLS):
        return character
    return f"⟨U+{ord(character):04X}⟩"


def token_text(text: str) -> str:
    """A token with its white space shown."""
    return visible(text.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥"))


def shortened(text: str, columns: int) -> str:
    """The first line of `text`, cut to `columns` (a Chinese character takes two)."""
    text = " ".join(visible(text).split())
    taken = 0
    for place, character in enumerate(text):
        taken += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if taken > columns:
            return text[: max(0, place - 1)] + "…"
    return text


def markdown_text(text: str) -> str:
    """`text` on one line, as code, in which nothing means anything to Markdown or HTML, and nobody is @mentioned."""
    line = " ".join(visible(text).split())
    return f"<code>{MARKDOWN.sub(lambda found: f'&#{ord(found[0])};', line)}</code>"


def short_source(source: str) -> str:
    """What a model or data set is called: without scheme, and of one file in a package or repository that file."""
    package, _, member = source.partition("://")[2].partition("#") if "://" in source else source.partition("#")
    return member.rpartition("/")[2] if member and "*" not in member else package


def number(value: float | None, digits: int = 3) -> str:
    """With a fixed number of digits and commas."""
    return NOTHING if value is None else _minus(f"{value:,.{digits}f}")


def signed(value: float, digits: int = 3) -> str:
    """As `number`, with a plus sign."""
    return _minus(f"{value:+,.{digits}f}")


def percent(value: float) -> str:
    """A share of 0 to 1."""
    return _minus(f"{100 * value:.1f}%")


def difference(gap: dict[str, float] | None, digits: int = 3) -> str:
    """A difference and its interval."""
    if gap is None:
        return NOTHING
    return f"{signed(gap['mean'], digits)} [{signed(gap['low'], digits)}, {signed(gap['high'], digits)}]"


def side(gap: dict[str, float] | None, better: str = "lower") -> str:
    """ "better", "worse" or "": on which side of zero the whole interval of a difference lies."""
    if gap is None or better not in ("lower", "higher") or gap["low"] <= 0 <= gap["high"]:
        return ""
    return "better" if (gap["high"] < 0) == (better == "lower") else "worse"


def _minus(text: str) -> str:
    return text.replace("-", MINUS)


FILTERS: dict[str, Any] = {
    "visible": visible,
    "token": token_text,
    "short_source": short_source,
    "shortened": shortened,
    "markdown": markdown_text,
    "number": number,
    "signed": signed,
    "percent": percent,
    "difference": difference,
    "side": side,
}
