"""Data sets by hf:// once the hub is out of reach: what the cache holds whole is read again, and nothing else."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.sources.test_huggingface_data import read, unread

ROWS = [{"instruction": f"q{number}", "output": f"a{number}"} for number in range(20)]


def lines(rows: list[dict]) -> bytes:
    return b"\n".join(json.dumps(row).encode() for row in rows)


def shards(count: int) -> dict[str, bytes]:
    """The rows in so many parquet files."""
    files, size = {}, len(ROWS) // count
    for number in range(count):
        stream = io.BytesIO()
        pd.DataFrame(ROWS[number * size : (number + 1) * size]).to_parquet(stream)
        files[f"data/train-{number:05}-of-{count:05}.parquet"] = stream.getvalue()
    return files


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    """Take the hub away; what the pipeline remembers lies in a folder of the test's own."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))

    def switch() -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    return switch


def test_a_split_that_was_fetched_and_one_that_was_not(hub, name, offline, capsys) -> None:
    hub.repository(name, "datasets").commit({"train.jsonl": lines(ROWS[:15]), "test.jsonl": lines(ROWS[15:])})
    online = read(f"hf://{name}", "train[:50%]")
    offline()
    assert read(f"hf://{name}", "train[:50%]") == online
    assert len(read(f"hf://{name}")[0]) == 15
    assert "the hub is out of reach; taken from the cache\n" in capsys.readouterr().out
    for split in ("test", "train+test"):
        message = unread(f"hf://{name}", split)
        assert "offline (HF_HUB_OFFLINE), and test.jsonl is not in the cache; unset HF_HUB_OFFLINE" in message


def test_a_slice_of_several_files(hub, name, offline) -> None:
    hub.repository(name, "datasets").commit(shards(5))
    online = read(f"hf://{name}", "train[:10%]")
    assert online == ([("q0", "a0"), ("q1", "a1")], 20)
    offline()
    assert read(f"hf://{name}", "train[:10%]") == online
    assert read(f"hf://{name}", "train[1:3]") == ([("q1", "a1"), ("q2", "a2")], 20)
    message = unread(f"hf://{name}", "train[:30%]")
    assert "data/train-00001-of-00005.parquet is not in the cache" in message
    assert "data/train-00003-of-00005.parquet and 1 more files are not in the cache" in unread(f"hf://{name}")


def test_a_header_that_was_fetched_counts(hub, name, offline) -> None:
    header = (
        b"---\nconfigs:\n- {config_name: zh, data_files: zh.jsonl}\n- {config_name: en, data_files: en.jsonl}\n---\n"
    )
    files = {"README.md": header, "zh.jsonl": lines(ROWS[:3]), "en.jsonl": lines(ROWS)}
    hub.repository(name, "datasets").commit(files)
    online = read(f"hf://{name}", subset="zh")
    offline()
    assert read(f"hf://{name}", subset="zh") == online
    assert "en.jsonl is not in the cache" in unread(f"hf://{name}", subset="en")


@pytest.mark.parametrize("source", ["hf://{}", "hf://{}#data/*.parquet"])
def test_shards_that_another_tool_fetched_are_no_data_set_where_one_is_missing(hub, name, offline, source) -> None:
    from huggingface_hub import hf_hub_download

    hub.repository(name, "datasets").commit(shards(2))
    first, second = (f"data/train-0000{number}-of-00002.parquet" for number in (0, 1))
    hf_hub_download(name, second, repo_type="dataset")
    offline()
    assert f"{first} is not in the cache" in unread(source.format(name))
    assert len(read(f"hf://{name}#{second}")[0]) == 10, "a file that is named needs no other"


def test_what_another_tool_fetched_whole_is_read_with_a_word_on_it(hub, name, offline, capsys) -> None:
    from huggingface_hub import hf_hub_download

    hub.repository(name, "datasets").commit(shards(2))
    for number in (0, 1):
        hf_hub_download(name, f"data/train-0000{number}-of-00002.parquet", repo_type="dataset")
    offline()
    assert read(f"hf://{name}", "train[:2]") == ([("q0", "a0"), ("q1", "a1")], 20)
    assert "taken from the cache, which has no list of what the repository holds: 2 files" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "is a Git LFS pointer"),
        (b"PAR1 cut off", "train-00001-of-00002.parquet"),
        (b"PAR1" + b"\xff" * 40 + (40).to_bytes(4, "little") + b"PAR1", "train-00001-of-00002.parquet"),
        (b"", "train-00001-of-00002.parquet"),
    ],
)
def test_a_shard_that_is_none_is_named(hub, name, content, expected) -> None:
    hub.repository(name, "datasets").commit({**shards(2), "data/train-00001-of-00002.parquet": content})
    assert expected in unread(f"hf://{name}", "train[:1]")


def test_names_in_upper_case_and_ndjson_are_data(hub, name) -> None:
    hub.repository(name, "datasets").commit({"Train.JSONL": lines(ROWS[:3]), "Test.NDJSON": lines(ROWS[3:5])})
    assert len(read(f"hf://{name}")[0]) == 3
    assert len(read(f"hf://{name}", "test")[0]) == 2


def test_what_datasets_saved_has_the_splits_of_its_own_files(hub, name, tmp_path) -> None:
    from datasets import Dataset, DatasetDict

    DatasetDict(old=Dataset.from_list(ROWS[:3]), new=Dataset.from_list(ROWS[3:5])).save_to_disk(tmp_path / "saved")
    files = {
        path.relative_to(tmp_path / "saved").as_posix(): path.read_bytes()
        for path in (tmp_path / "saved").rglob("*")
        if path.is_file()
    }
    hub.repository(name, "datasets").commit(files)
    assert read(f"hf://{name}", "new")[0] == [("q3", "a3"), ("q4", "a4")]
