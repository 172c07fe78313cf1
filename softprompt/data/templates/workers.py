"""Tokenizing in worker processes: rows in, Arrow batches out, in order, the same bytes from any number of workers."""

import json
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from softprompt.data.templates import Encoded, Template
from softprompt.data.templates.rendering import RowError
from softprompt.data.tokens import TOKENIZED_SCHEMA, check_embedded, context_of
from softprompt.runtime.guard import die_with_parent
from softprompt.runtime.libraries import quiet_libraries

if TYPE_CHECKING:
    from transformers import PretrainedConfig

NO_ROOM = "its question leaves no room for an answer (tokenize.max_length)"


@dataclass(frozen=True)
class Told:
    """What is to be told of a row: why it is dropped, or what is to be known of one that is kept.

    Attributes:
        example_id: the row's.
        reason: the same text for all rows that it holds for.
        detail: what is to be seen in this one.
        dropped: whether the row is.
    """

    example_id: str
    reason: str
    detail: str
    dropped: bool


@dataclass(frozen=True)
class EncodedBatch:
    """The rows of one task as tokens.

    Attributes:
        rows: those that have a label, in the order of the task.
        truncated: how many of them have a truncated answer.
        no_room: the prompt lengths of those whose question leaves no room for a label; they are dropped.
        told: of these and others.
    """

    rows: pa.RecordBatch
    truncated: int
    no_room: list[int]
    told: list[Told]


@contextmanager
def encoder(base: Path, arguments: dict[str, Any], max_length: int | None, workers: int) -> Iterator:
    """Yield `Template.settings`, the most tokens of a row, and a function from row lists to their `EncodedBatch`.

    That function takes and gives iterables, in order.

    Args:
        base: the model's folder.
        arguments: those of `Template`, but for the tokenizer.
        max_length: tokens of a row; None: as many as the model takes.
        workers: processes.

    Raises:
        InputError: if the template can't be used with the model, whatever the rows.
    """
    # A plain fork would inherit the locks of threads that libraries have started, a spawn would import this file anew.
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    given = json.dumps(arguments)  # text, since a cache takes no mapping
    with ProcessPoolExecutor(workers, context, _start) as pool:
        # By a worker: this process never has to import what makes a tokenizer.
        settings, most = pool.submit(described, base, given).result()
        longest = max_length or most

        def encode(batches: Iterable[list[dict]]) -> Iterator[EncodedBatch]:
            # `pool.map` would take all batches at once; with these the workers never wait, and no more are in memory.
            ahead = deque[Future[EncodedBatch]]()
            for rows in batches:
                ahead.append(pool.submit(encode_batch, base, given, longest, rows))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

        yield settings, longest, encode


def _start() -> None:
    """What a worker does first."""
    die_with_parent()
    # Tokenizers and configurations need no torch. Where Python can't find it, transformers does without, and is there
    # in a third of the time.
    sys.modules["torch"] = None  # type: ignore[assignment]
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"  # it would say that models need torch


def described(base: Path, arguments: str) -> tuple[dict[str, Any], int | None]:
    """`Template.settings` of its arguments as JSON, and the tokens that the model takes at most (None: any number)."""
    template, config = _template(base, arguments)
    return template.settings, context_of(config)


def encode_batch(base: Path, arguments: str, max_length: int | None, rows: list[dict]) -> EncodedBatch:
    """Tokenize `rows` of `softprompt.data.rows.PREPARED_SCHEMA`; `arguments`: those of `Template` as JSON.

    Raises:
        InputError: if the template does not suit the model, or a row holds a token that the model has no embedding of.
    """
    template, config = _template(base, arguments)
    kept: list[tuple[dict, Encoded]] = []
    no_room, told = list[int](), list[Told]()
    for row, encoded in zip(rows, template.encode(rows, max_length), strict=True):
        name = row["example_id"]
        if isinstance(encoded, Encoded):
            check_embedded(encoded.input_ids, template.tokenizer, config, f"the row {name}")
            kept.append((row, encoded))
            told += [Told(name, remark, "", dropped=False) for remark in encoded.remarks]
        elif isinstance(encoded, RowError):
            told.append(Told(name, encoded.reason, encoded.detail, dropped=True))
        else:
            no_room.append(encoded)
            told.append(Told(name, NO_ROOM, f"its prompt has {encoded} tokens", dropped=True))
    columns = [
        [encoded.input_ids for _, encoded in kept],
        [encoded.labels for _, encoded in kept],
        [row["example_id"] for row, _ in kept],
        [row["question_id"] for row, _ in kept],
    ]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, TOKENIZED_SCHEMA, strict=True)]
    batch = pa.record_batch(arrays, schema=TOKENIZED_SCHEMA)
    return EncodedBatch(batch, sum(encoded.truncated for _, encoded in kept), no_room, told)


@cache
def _template(base: Path, arguments: str) -> tuple[Template, "PretrainedConfig"]:
    """The template, and the model's configuration: once a process."""
    from transformers import AutoConfig, AutoTokenizer

    quiet_libraries()
    template = Template(AutoTokenizer.from_pretrained(base), **json.loads(arguments))
    return template, AutoConfig.from_pretrained(base)
