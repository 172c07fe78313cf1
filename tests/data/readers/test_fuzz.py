"""Whatever is in a file: every row in is a row out or one with a reason, or the file is refused in one line.

`FUZZ_EXAMPLES=30000 pytest -n 0 tests/data/readers/test_fuzz.py` looks for some ten minutes.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from softprompt.data.rows import RAW_SCHEMA
from softprompt.data.rows.cleaning import cleaned
from softprompt.runtime.errors import InputError
from softprompt.sources.kinds import check_kind
from tests.data.readers.reading import fetch

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))
COMPRESS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress}
KEYS = ("instruction", "input", "output", "messages", "conversations", "system", "history", "weight", "tools", "prompt")
TURN_KEYS = ("role", "content", "from", "value", "human", "assistant", "weight", "tool_calls", "reasoning_content")

texts = st.text(st.characters(codec=None), max_size=8) | st.sampled_from(
    ["user", "gpt", "system", "2024-01-01", "[", "{}"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
turns = st.dictionaries(
    st.sampled_from(TURN_KEYS), scalars | st.lists(st.dictionaries(texts, scalars, max_size=2), max_size=2)
)
cells = scalars | st.lists(turns | scalars, max_size=4) | turns | st.lists(st.lists(texts, max_size=3), max_size=3)
records = st.dictionaries(st.sampled_from(KEYS), cells, max_size=5) | cells
damages = st.none() | st.tuples(st.floats(0, 1), st.binary(max_size=3))


def is_cut(content: bytes, damage: tuple[float, bytes] | None) -> bool:
    """Whether something lacks at the end, and nothing stands in its place."""
    return damage is not None and not damage[1] and int(damage[0] * len(content)) < len(content)


def damaged(content: bytes, damage: tuple[float, bytes] | None) -> bytes:
    """`content` broken off at a place, with other bytes there."""
    return content if damage is None else content[: int(damage[0] * len(content))] + damage[1]


def check(path: Path, rows: int | None, *, cut: bool = False) -> None:
    """Read `path`, which has so many rows (None: who knows); `cut`: which has to be refused, unless all is gone."""
    refusal = ""
    try:
        check_kind(path)
        found = fetch(path)
    except InputError as error:
        refusal = str(error)
    if refusal:
        assert len(refusal.splitlines()) == 1
        return
    assert not cut or not path.read_bytes()
    if rows is not None:
        assert len(found) == rows
    raw = pa.Table.from_pylist(found, schema=RAW_SCHEMA)
    assert all(row["fault"] or row["messages"] for row in found)
    assert len(cleaned(raw.to_pandas())) == len(found)


# The same examples each time, where they are few: a test that fails now and then helps nobody.
examples = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES < 1000,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@examples
@given(
    st.lists(records, max_size=6),
    st.sampled_from(["list", "lines"]),
    st.sampled_from(sorted(COMPRESS)),
    damages,
    st.booleans(),
)
def test_json(tmp_path: Path, rows: list, form: str, ending: str, damage, ascii: bool) -> None:
    dumped = [json.dumps(row, ensure_ascii=ascii) for row in rows]
    text = f"[{','.join(dumped)}]" if form == "list" else "".join(f"{line}\n" for line in dumped)
    path = tmp_path / f"a.json{'l' if form == 'lines' else ''}{ending}"
    content = COMPRESS[ending](text.encode("utf-8", "surrogatepass"))
    path.write_bytes(damaged(content, damage))
    one_list = form == "lines" and len(rows) == 1 and isinstance(rows[0], list)  # which is a list of rows
    known = damage is None and not one_list
    check(path, len(rows) if known else None, cut=bool(ending) and is_cut(content, damage))


@examples
@given(
    st.lists(st.sampled_from(KEYS), min_size=1, max_size=4),
    st.lists(st.lists(st.text(st.characters(codec="utf-8"), max_size=8), max_size=5), max_size=6),
    st.sampled_from(",;\t|"),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "gb18030"]),
    damages,
)
def test_csv(tmp_path: Path, header: list, rows: list, delimiter: str, encoding: str, damage) -> None:
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter).writerows([header, *rows])
    path = tmp_path / "a.csv"
    path.write_bytes(damaged(stream.getvalue().encode(encoding), damage))
    known = damage is None and encoding != "gb18030" and len(header) > 1
    check(path, sum(len(row) > 1 or bool("".join(row).strip()) for row in rows) if known else None)


@examples
@given(
    st.sampled_from(KEYS), st.sampled_from(KEYS), st.lists(st.tuples(cells, cells), max_size=6), st.booleans(), damages
)
def test_parquet_and_arrow(tmp_path: Path, first: str, second: str, rows: list, arrow: bool, damage) -> None:
    try:
        table = pa.table({first: pa.array([a for a, _ in rows]), second: pa.array([b for _, b in rows])})
        stream = io.BytesIO()
        if arrow:
            with pa.ipc.new_stream(stream, table.schema) as writer:
                writer.write_table(table)
        else:
            pq.write_table(table, stream)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError, TypeError, ValueError):
        return  # no such table can be
    path = tmp_path / ("a.arrow" if arrow else "a.parquet")
    path.write_bytes(damaged(stream.getvalue(), damage))
    check(path, len(rows) if damage is None else None)


@examples
@given(st.lists(st.lists(texts, max_size=3) | cells, max_size=4), damages)
def test_yaml(tmp_path: Path, conversations: list, damage) -> None:
    path = tmp_path / "a.yml"
    text = yaml.safe_dump({"conversations": conversations}, allow_unicode=True)
    path.write_bytes(damaged(text.encode("utf-8", "surrogatepass"), damage))
    check(path, None)
