"""For these tests only: one thread (tiny models gain nothing from more), and silence about random models' configs."""

from collections.abc import Iterator

import pytest
import torch
from transformers import logging


@pytest.fixture(scope="package", autouse=True)
def tiny_and_quiet() -> Iterator[None]:
    threads, verbosity = torch.get_num_threads(), logging.get_verbosity()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    yield
    torch.set_num_threads(threads)
    logging.set_verbosity(verbosity)
