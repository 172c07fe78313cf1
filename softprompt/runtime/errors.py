"""The one exception that a user may see, and text that a terminal only shows."""

from softprompt.runtime.secrets import redacted


class InputError(Exception):
    """Bad input: one fault, or several. Each names what was wrong, what is allowed and what to do.

    A fault is shown as one line, without a traceback: line breaks and control characters, which may come from the data,
    are made harmless, and addresses lose what may be secret in them.
    """

    def __str__(self) -> str:
        return "\n".join(one_line(redacted(str(fault))) for fault in self.args)


def one_line(text: str) -> str:
    """`text` on one line, in which what isn't printable, and a terminal might obey, is an escape such as `\\x1b`."""
    shown = "".join(c if c.isprintable() or c.isspace() else c.encode("unicode_escape").decode() for c in text)
    return " ".join(shown.split())
