"""Addresses without what may be secret in them: they get into messages, records and reports that others see.

`python -m softprompt.runtime.secrets` writes its input so.
"""

import re
import sys

USERINFO = re.compile(r"(?<=://)[^\s/?#]*@")
# A signature or a token may have any name, so every value is hidden. In other schemes "?" is a wildcard.
QUERY = re.compile(r"(https?://[^\s?#'\"<>]*)([?#])([^\s'\"<>]*)", re.I)


def redacted(text: str) -> str:
    """`text` in which each address has lost user name, password, and the values of its query."""
    return QUERY.sub(_without_values, USERINFO.sub("…@", text))


def has_userinfo(address: str) -> bool:
    """Whether `address` has a user name or a password in it."""
    return USERINFO.search(address) is not None


def _without_values(match: re.Match[str]) -> str:
    address, mark, query = match.groups()
    names = [part.partition("=")[0] if "=" in part else "" for part in query.split("&")]
    return f"{address}{mark}{'&'.join(f'{name}=…' if name else '…' for name in names)}" if query else address


if __name__ == "__main__":
    sys.stdout.write(redacted(sys.stdin.read()))
