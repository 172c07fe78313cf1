"""The one exception that a user may see."""


class InputError(Exception):
    """Bad input. Its text names what was wrong, what is allowed and what to do; no traceback is shown."""
