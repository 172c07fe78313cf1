"""Data sets by hf://, through the real `huggingface_hub` and `datasets`, from a hub on loopback."""

import io
import json
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from softprompt.config.general import General
from softprompt.data.readers import Rows, Wanted, select_data_files
from softprompt.data.readers.splits import wanted_files
from softprompt.data.readers.texts import read_texts, select_text_files
from softprompt.runtime.errors import InputError
from softprompt.sources import fetched
from tests.hub import wrong_bytes
from tests.toy import data_params, write_params

ROWS = [{"instruction": f"问题 {number}", "input": "", "output": f"答案 {number}"} for number in range(40)]
ALPACA = json.dumps(ROWS, ensure_ascii=False).encode()


def read(source: str, split: str = "train", **settings: str) -> tuple[list[tuple[str, str]], int]:
    """(question, last answer) of each good row, and the number of all rows that were read."""
    chosen, wanted = data_params(source, split=split, **settings), [Wanted("train", split, "data.split")]
    files = partial(wanted_files, {"data.split": split}, chosen.subset)
    with fetched(chosen, "data", select_data_files, files) as found:
        assert found.whole == ("#" not in source)
        rows = Rows(found, chosen, wanted)
        good = [row["messages"] for row in rows.rows(wanted[0]) if not row["fault"]]
    return [(turns[0]["content"], turns[-1]["content"]) for turns in good], rows.count


def unread(source: str, split: str = "train", **columns: str) -> str:
    with pytest.raises(InputError) as error:
        read(source, split, **columns)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


class TestData:
    @pytest.mark.parametrize("file", ["alpaca_data_zh_51k.json", "train.jsonl", "data/train-00000-of-00001.parquet"])
    def test_the_rows_of_a_slice(self, hub, name, file) -> None:
        if file.endswith("parquet"):
            stream = io.BytesIO()
            pd.DataFrame(ROWS).to_parquet(stream)
            content = stream.getvalue()
        else:
            content = ALPACA if file.endswith(".json") else b"\n".join(json.dumps(row).encode() for row in ROWS)
        files = {"README.md": b"---\nlicense: mit\n---\n", file: content, "load.py": b"raise SystemExit", "a.png": b"x"}
        hub.repository(name, "datasets").commit(files)
        for source in (f"hf://{name}", name):
            rows, total = read(source, "train[:10%]")
            assert rows == [(f"问题 {number}", f"答案 {number}") for number in range(4)]
            assert total == 40
        assert not {"load.py", "a.png"} & set(hub.downloads())

    def test_splits_as_the_header_or_the_file_names_say(self, hub, name) -> None:
        header = b"---\nconfigs:\n- config_name: default\n  data_files:\n  - {split: dev, path: a.json}\n---\n"
        repository = hub.repository(name, "datasets")
        repository.commit({"README.md": header, "a.json": ALPACA, "b.json": b"[]"})
        assert len(read(f"hf://{name}", "dev[5:8]")[0]) == 3
        assert "no split train; the data set has: dev" in unread(f"hf://{name}")
        repository.commit({"train.json": ALPACA, "test.json": json.dumps(ROWS[:5]).encode()})
        assert read(f"hf://{name}", "test+train[:1]")[1] == 45
        assert "data.split: 'validation': no split validation; the data set has: train, test" in unread(
            f"hf://{name}", "validation"
        )

    def test_named_files(self, hub, name) -> None:
        hub.repository(name, "datasets").commit({"zh/a.json": ALPACA, "en/a.json": json.dumps(ROWS[:3]).encode()})
        assert read(f"hf://{name}#en/*.json")[1] == 3
        assert hub.downloads() == ["a.json"]
        assert "no file fr/* in the repository; it holds en/a.json, zh/a.json" in unread(f"hf://{name}#fr/*")

    def test_columns_and_rows_that_fit_no_format(self, hub, name) -> None:
        repository = hub.repository(name, "datasets")
        repository.commit({"a.json": json.dumps([{"q": "a", "a": "b"}] * 3).encode()})
        assert "a.json: the columns are q, a; known are instruction or" in unread(f"hf://{name}")
        assert "no column 'x' (data.columns.output); the columns are q, a" in unread(
            f"hf://{name}", instruction="q", output="x"
        )
        assert read(f"hf://{name}", instruction="q", output="a")[0] == [("a", "b")] * 3
        good = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        repository.commit({"a.json": json.dumps([{"messages": good}, {"messages": good[:1]}]).encode()})
        assert read(f"hf://{name}") == ([("a", "b")], 2)

    def test_a_script_is_never_run(self, hub, name) -> None:
        hub.repository(name, "datasets").commit({"load.py": b"raise SystemExit", "README.md": b"# data"})
        message = unread(f"hf://{name}")
        assert "no data file (a data-set script is never run) in the repository; it holds README.md, load.py" in message
        assert hub.downloads() == []

    def test_what_can_not_be_read(self, hub, name) -> None:
        repository = hub.repository(name, "datasets")
        repository.commit({"a.json": b'[{"instruction": '})
        assert "a.json, line 1, column 18: truncated: the JSON list breaks off" in unread(f"hf://{name}")
        repository.commit({"a.parquet": b"<html>Log in</html>"})
        assert "a.parquet is a web page" in unread(f"hf://{name}")

    def test_only_the_files_of_the_wanted_subset_and_split_are_fetched(self, hub, name) -> None:
        header = (
            b"---\nconfigs:\n- {config_name: zh, data_files: zh.json}\n- config_name: en\n  data_files:\n"
            b"  - {split: train, path: en.json}\n  - {split: test, path: other.json}\n---\n"
        )
        files = {"README.md": header, "zh.json": ALPACA, "en.json": ALPACA, "other.json": ALPACA}
        hub.repository(name, "datasets").commit(files)
        assert "data.subset: one has to be named; the data set has: zh, en" in unread(f"hf://{name}")
        hub.requests.clear()
        assert read(f"hf://{name}", subset="en")[1] == 40
        assert [file for file in hub.downloads() if file != "README.md"] == ["en.json"]
        assert read(f"hf://{name}#zh.json")[1] == 40

    def test_of_several_parquet_files_those_with_wanted_rows_are_fetched(self, hub, name) -> None:
        files = {}
        for number in range(5):
            stream = io.BytesIO()
            pd.DataFrame(ROWS[number * 8 : number * 8 + 8]).to_parquet(stream)
            files[f"data/train-0000{number}-of-00005.parquet"] = stream.getvalue()
        hub.repository(name, "datasets").commit(files)

        def whole() -> set[str]:
            return {
                path.rpartition("/")[2][6:11]
                for method, path, span in hub.requests
                if method == "GET" and ".parquet" in path and not span
            }

        rows, total = read(f"hf://{name}", "train[:25%]")
        assert [question for question, _ in rows] == [f"问题 {number}" for number in range(10)]
        assert total == 40
        assert whole() == {"00000", "00001"}
        assert [question for question, _ in read(f"hf://{name}", "train[-3:]")[0]] == ["问题 37", "问题 38", "问题 39"]
        assert whole() == {"00000", "00001", "00004"}
        assert "data.split: 'train[:150%]' is not in the slice syntax" in unread(f"hf://{name}", "train[:150%]")

    def test_a_mirror_that_describes_a_repository_without_hashes(self, hub, name) -> None:
        """The list of its files, by which the client downloads, has them."""
        hub.repository(name, "datasets", hashes=False).commit({"a.json": ALPACA})
        hub.faults["a.json"] = [wrong_bytes]
        assert "a.json has other bytes than the hub lists" in unread(f"hf://{name}")
        assert read(f"hf://{name}")[1] == 40

    def test_a_model_is_no_data_set(self, hub, name) -> None:
        hub.repository(name).commit({"config.json": b"{}"})
        assert "no such dataset repository" in unread(f"hf://{name}")


def test_general_text_of_a_repository(hub, name) -> None:
    stream = io.BytesIO()
    pd.DataFrame({"text": ["一段话。", "another text"]}).to_parquet(stream)
    files = {"README.md": b"# no text", "train.parquet": stream.getvalue(), "notes.txt": b"a\n\nb", "a.png": b"x"}
    hub.repository(name, "datasets").commit(files)
    general = General(source=f"hf://{name}", revision=None, sha256=None, column="text", blocks=1, block_tokens=2)
    with fetched(general, "general", select_text_files) as found:
        texts = [text for path in select_text_files(found.files) for text in read_texts(path, "text")]
    assert texts == ["a", "b", "一段话。", "another text"]
    assert "a.png" not in hub.downloads()


def test_the_stages_with_a_base_name(hub, name, run, project, capfd) -> None:
    """No stage takes it for a path; records name the address, and rows the repository."""
    hub.repository(name, "datasets").commit({"train.json": ALPACA})
    write_params(project, **{"data.source": name})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        run("local_sources", "fetch_data")
    assert json.loads(Path("data/sources/data.json").read_text(encoding="utf-8")) == {}
    assert json.loads(Path("data/raw/source.json").read_text(encoding="utf-8"))["source"] == f"hf://{name}"
    assert set(pd.read_parquet("data/raw/rows.parquet")["source"]) == {name}
    assert f"fetch_data: hf://{name}: 40 of 40 rows" in capfd.readouterr().out
