"""A chat template's clock, stopped: what it writes today it writes tomorrow."""

import json
from datetime import datetime

LETTERS = "aAbBcdeDFGhHIjklmMnpPrRStTuUVwWxXyYzZfsC"


def at_date(chat_template: str, date: str) -> str:
    """`chat_template` with a `strftime_now` of its own that always says `date` (ISO 8601), at midnight.

    transformers offers no way to hand it another clock, but a macro of the template's own comes before the global
    function of that name. It has a line of its own, which Jinja takes away: the template begins a line as before.
    """
    if "strftime_now" not in chat_template:
        return chat_template
    moment = datetime.fromisoformat(date)
    written = {f"%{flag}{letter}": moment.strftime(f"%{flag}{letter}") for flag in ("", "-") for letter in LETTERS}
    # A per cent sign that is written twice is one, and begins no directive.
    table = json.dumps({"%%": "\0", **written, "\0": "%"})
    return (
        "{%- macro strftime_now(format) -%}{%- set date = namespace(text=format) -%}"
        f"{{%- for name, value in {table}.items() -%}}"
        "{%- set date.text = date.text.replace(name, value) -%}{%- endfor -%}"
        "{{- date.text -}}{%- endmacro %}\n" + chat_template
    )
