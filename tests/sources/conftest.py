"""Fixtures of the tests of sources."""

from itertools import count

import pytest

NUMBER = count()


@pytest.fixture
def name() -> str:
    """A repository's name that no other test has: the client's cache is one for all."""
    return f"owner/name-{next(NUMBER)}"
