"""Tokenizing in worker processes: rows in, Arrow batches out, in order, the same bytes from any number of workers."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from softprompt.config.tokenize import Tokenize
from softprompt.data.templates import Encoded, Template
from softprompt.data.tokens import TOKENIZED_SCHEMA, check_embedded
from softprompt.runtime.guard import die_with_parent
from softprompt.runtime.progress import quiet_libraries

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class EncodedBatch:
    """The rows of one task as tokens.

    Attributes:
        rows: those that have a label, in the order of the task.
        truncated: how many of them have a truncated answer.
        dropped: the prompt lengths of the others, whose question leaves no room for a label.
    """

    rows: pa.RecordBatch
    truncated: int
    dropped: list[int]


@contextmanager
def encoder(base: Path, params: Tokenize, workers: int) -> Iterator:
    """Yield a function from an iterable of row lists to an iterator of `EncodedBatch`, in order."""
    # A plain fork would inherit the locks of threads that libraries have started; a spawn imports them once a worker.
    context = get_context("forkserver")
    context.set_forkserver_preload(["transformers", __name__])
    with ProcessPoolExecutor(workers, context, die_with_parent) as pool:

        def encode(batches: Iterable[list[dict]]) -> Iterator[EncodedBatch]:
            # `pool.map` would take all batches at once; with these the workers never wait, and no more are in memory.
            ahead = deque[Future[EncodedBatch]]()
            for rows in batches:
                ahead.append(pool.submit(encode_batch, base, params, rows))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

        yield encode


def encode_batch(base: Path, params: Tokenize, rows: list[dict]) -> EncodedBatch:
    """Tokenize `rows` of `softprompt.data.rows.PREPARED_SCHEMA`.

    Raises:
        InputError: if the template does not suit the model, or a row holds a token that the model has no embedding of.
    """
    template, config = _template(base, params)
    kept: list[tuple[dict, Encoded]] = []
    dropped: list[int] = []
    for row, encoded in zip(rows, template.encode(rows, params.max_length), strict=True):
        if isinstance(encoded, Encoded):
            check_embedded(encoded.input_ids, template.tokenizer, config, f"the row {row['example_id']}")
            kept.append((row, encoded))
        else:
            dropped.append(encoded)
    columns = [
        [encoded.input_ids for _, encoded in kept],
        [encoded.labels for _, encoded in kept],
        [row["example_id"] for row, _ in kept],
        [row["question_id"] for row, _ in kept],
    ]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, TOKENIZED_SCHEMA, strict=True)]
    batch = pa.record_batch(arrays, schema=TOKENIZED_SCHEMA)
    return EncodedBatch(batch, sum(encoded.truncated for _, encoded in kept), dropped)


@cache
def _template(base: Path, params: Tokenize) -> tuple[Template, "PretrainedConfig"]:
    """The template, and the model's configuration: once a process."""
    from transformers import AutoConfig, AutoTokenizer

    quiet_libraries()
    template = Template(AutoTokenizer.from_pretrained(base), params.template, params.system)
    return template, AutoConfig.from_pretrained(base)
