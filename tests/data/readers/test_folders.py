"""Folders, encodings and compressions: a local file is read as a hub's is."""

import bz2
import gzip
import io
import json
import lzma
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from datasets import Dataset, DatasetDict

from softprompt.data.readers.formats import READERS, extension
from softprompt.runtime.errors import InputError
from softprompt.sources.kinds import check_kind
from softprompt.sources.repository import DATA_FILES
from tests.data.readers.reading import fetch, said

ROWS = [{"instruction": f"Größe {number}?", "output": f"„{number} m“"} for number in range(6)]
CSV = "".join(
    f"{row['instruction']};{row['output']}\n" for row in [{"instruction": "instruction", "output": "output"}, *ROWS]
)


def questions(rows: list[dict]) -> list[str]:
    return [said(row)[0][1] for row in rows]


ALL = [row["instruction"] for row in ROWS]
COMPRESS = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard.compress}


@pytest.mark.parametrize(
    ("ending", "compress"),
    [("", bytes), *COMPRESS.items()],
)
def test_compressed_files(tmp_path: Path, ending: str, compress) -> None:
    lines = "\n".join(json.dumps(row) for row in ROWS).encode()
    for name, content in {"a.jsonl": lines, "b.json": json.dumps(ROWS).encode(), "c.csv": CSV.encode()}.items():
        (tmp_path / f"{name}{ending}").write_bytes(compress(content))
        rows = fetch(tmp_path / f"{name}{ending}")
        assert questions(rows) == ALL
        assert rows[0]["source"] == name[0]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_csv_as_spreadsheets_write_it(tmp_path: Path, capsys: pytest.CaptureFixture[str], delimiter, encoding) -> None:
    (tmp_path / "a.csv").write_bytes(CSV.replace(";", delimiter).encode(encoding))
    rows = fetch(tmp_path / "a.csv", encoding="cp1252" if encoding == "cp1252" else None)
    assert [said(row) for row in rows] == [[("user", row["instruction"]), ("assistant", row["output"])] for row in ROWS]
    assert capsys.readouterr().out == ""


def test_an_encoding_that_is_guessed_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "instruction,output\n" + "".join(
        f"请用一句话说明第{n}种鸟的样子。,这种鸟的羽毛是灰色的。\n" for n in range(30)
    )
    (tmp_path / "a.csv").write_bytes(text.encode("gb18030"))
    assert questions(fetch(tmp_path / "a.csv"))[2] == "请用一句话说明第2种鸟的样子。"
    assert capsys.readouterr().out.count("a.csv is not UTF-8, and read as gb") == 1
    with pytest.raises(InputError, match=r"data.encoding: there is no 'klingon'"):
        fetch(tmp_path / "a.csv", encoding="klingon")


@pytest.mark.parametrize("size", [1_200_000, 3_000])
def test_an_encoding_is_guessed_from_whole_lines(tmp_path: Path, size: int) -> None:
    line = "请用一句话说明鸟的样子。,这种鸟的羽毛是灰色的。\n"
    ascii_first = "a,b\n" * (400_000 if size < 10_000 else 0)
    text = "instruction,output\n" + ascii_first + line * (size // len(line.encode("gb18030")))
    (tmp_path / "a.csv").write_bytes(text.encode("gb18030"))
    assert said(fetch(tmp_path / "a.csv")[-1])[0][1] == "请用一句话说明鸟的样子。"


def test_one_line_in_another_encoding_is_named(tmp_path: Path) -> None:
    lines = [f"Où est le café {n} ?,Près de la fenêtre.\n".encode() for n in range(9)]
    (tmp_path / "a.csv").write_bytes(b"instruction,output\n" + b"".join([*lines[:4], b"na\xefve,oui\n", *lines[4:]]))
    with pytest.raises(InputError, match=r"a\.csv, line 6, is not UTF-8 text"):
        fetch(tmp_path / "a.csv")


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("cut", [1, 9, 500])
def test_compressed_files_that_break_off(tmp_path: Path, ending: str, cut: int) -> None:
    lines = "\n".join(json.dumps({"instruction": f"Q {n * n}?", "output": f"A {n**3}"}) for n in range(3000)).encode()
    (tmp_path / f"a.jsonl{ending}").write_bytes(COMPRESS[ending](lines)[:-cut])
    with pytest.raises(InputError, match=f"a.jsonl{ending} is truncated"):
        fetch(tmp_path / f"a.jsonl{ending}")


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz", ".zst"])
def test_compressed_parquet_and_arrow(tmp_path: Path, ending: str) -> None:
    parquet, arrow = io.BytesIO(), io.BytesIO()
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, parquet)
    with pa.ipc.new_file(arrow, table.schema) as writer:
        writer.write_table(table)
    for name, stream in (("a.parquet", parquet), ("a.arrow", arrow)):
        (tmp_path / f"{name}{ending}").write_bytes(COMPRESS[ending](stream.getvalue()))
        assert questions(fetch(tmp_path / f"{name}{ending}")) == ALL


def test_an_arrow_stream_that_breaks_off_between_two_batches(tmp_path: Path) -> None:
    stream = io.BytesIO()
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
        whole = stream.tell()
        writer.write_table(table)
    (tmp_path / "a.arrow").write_bytes(stream.getvalue()[:whole])
    with pytest.raises(InputError, match=r"a\.arrow: not a valid Arrow file, or a truncated one"):
        fetch(tmp_path / "a.arrow")


def test_quotation_marks_of_a_tsv_that_knows_no_quoting(tmp_path: Path) -> None:
    for line in ('"Start\tA1\nQ2\tA2\nQ3"\tA3\nQ4\tA4\n', '"Hi" is\ta word\nb\tc\nd\te\nf\tg\n'):
        (tmp_path / "a.tsv").write_text(f"instruction\toutput\n{line}", encoding="utf-8")
        rows = fetch(tmp_path / "a.tsv")
        assert [said(row)[0][1] for row in rows] == [cells.split("\t")[0] for cells in line.splitlines()]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", json.dumps(ROWS)),
        ("a.jsonl", json.dumps(ROWS, indent=2)),
        ("a.ndjson", "\n".join(map(json.dumps, ROWS))),
        ("a.csv", CSV.replace("instruction;output", " instruction ; output ")),
        ("a.csv", CSV.replace("instruction;output", '"instruction";"output"')),
    ],
)
def test_other_ways_to_write_the_same(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8-sig")
    assert questions(fetch(tmp_path / name, encoding="utf-8")) == ALL


def test_tsv_and_cells_with_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b'instruction\toutput\r\n"a\r\nb"\tc,d\r\n')
    assert said(fetch(tmp_path / "a.tsv")[0]) == [("user", "a\r\nb"), ("assistant", "c,d")]


def test_texts_that_look_like_dates_or_numbers_stay_texts(tmp_path: Path) -> None:
    texts = ["2024-02-29", "2024-02-29 10:00:00", "007", "1e5", "NA", "null", "true"]
    (tmp_path / "a.json").write_text(json.dumps([{"instruction": "a", "output": text} for text in texts]))
    (tmp_path / "b.csv").write_text("instruction,output\n" + "".join(f"a,{text}\n" for text in texts))
    for name in ("a.json", "b.csv"):
        assert [said(row)[1][1] for row in fetch(tmp_path / name)] == texts


class TestFolders:
    def test_file_names_tell_the_splits(self, tmp_path: Path) -> None:
        for name, rows in {"train.jsonl": ROWS[:4], "test.jsonl": ROWS[4:]}.items():
            (tmp_path / name).write_text("\n".join(map(json.dumps, rows)))
        assert questions(fetch(tmp_path)) == ALL[:4]
        assert questions(fetch(tmp_path, "test")) == ALL[4:]
        assert questions(fetch(tmp_path, "train[:50%]+test[-1:]")) == [*ALL[:2], ALL[5]]
        assert questions(fetch(tmp_path, None)) == ALL
        with pytest.raises(InputError, match=r"data.split: 'dev': no split dev; the data set has: train, test"):
            fetch(tmp_path, "dev")

    def test_files_that_name_no_split_are_train_whatever_their_formats(self, tmp_path: Path) -> None:
        (tmp_path / "a.json").write_text(json.dumps(ROWS[:2]))
        (tmp_path / "b.csv").write_text(CSV)
        (tmp_path / "LICENSE").write_text("free")
        assert questions(fetch(tmp_path)) == ALL[:2] + ALL

    def test_files_of_no_split_are_named(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "train.json").write_text(json.dumps(ROWS))
        (tmp_path / "more.json").write_text(json.dumps(ROWS))
        assert len(fetch(tmp_path)) == len(ROWS)
        (tmp_path / "table.xlsx").write_bytes(b"PK")
        assert len(fetch(tmp_path)) == len(ROWS)
        assert "not read: more.json, table.xlsx" in capsys.readouterr().out

    def test_a_header_with_subsets(self, tmp_path: Path) -> None:
        (tmp_path / "README.md").write_text(
            "---\nconfigs:\n- config_name: de\n  data_files: de.json\n- config_name: en\n  data_files:\n"
            "  - {split: dev, path: en.json}\n---\n"
        )
        (tmp_path / "de.json").write_text(json.dumps(ROWS))
        (tmp_path / "en.json").write_text(json.dumps(ROWS[:1]))
        assert len(fetch(tmp_path, subset="de")) == len(ROWS)
        assert len(fetch(tmp_path, "dev", subset="en")) == 1
        for subset, wrong in ((None, "one has to be named"), ("fr", "there is no 'fr'")):
            with pytest.raises(InputError, match=f"data.subset: {wrong}; the data set has: de, en"):
                fetch(tmp_path, subset=subset)

    def test_saved_data_sets_are_what_their_own_files_say(self, tmp_path: Path) -> None:
        """Not what else lies there, such as the cache of a later map; splits may have any names."""
        Dataset.from_list(ROWS).save_to_disk(tmp_path / "one", num_shards=2)
        shutil.copy(tmp_path / "one/data-00000-of-00002.arrow", tmp_path / "one/cache-0123456789abcdef.arrow")
        assert questions(fetch(tmp_path / "one")) == ALL
        (tmp_path / "one/data-00001-of-00002.arrow").unlink()
        with pytest.raises(InputError, match=r"data-00001-of-00002.arrow missing, which state.json names"):
            fetch(tmp_path / "one")
        DatasetDict(sft=Dataset.from_list(ROWS[:4]), dpo=Dataset.from_list(ROWS[4:])).save_to_disk(tmp_path / "both")
        assert questions(fetch(tmp_path / "both", "dpo")) == ALL[4:]
        with pytest.raises(InputError, match="no split train; the data set has: sft, dpo"):
            fetch(tmp_path / "both")

    def test_what_datasets_saved_to_disk(self, tmp_path: Path) -> None:
        Dataset.from_list(ROWS).save_to_disk(tmp_path / "one")
        assert questions(fetch(tmp_path / "one")) == ALL
        both = DatasetDict(train=Dataset.from_list(ROWS[:4]), test=Dataset.from_list(ROWS[4:]))
        both.save_to_disk(tmp_path / "both")
        assert questions(fetch(tmp_path / "both")) == ALL[:4]
        assert questions(fetch(tmp_path / "both", "test")) == ALL[4:]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "a Git LFS pointer"),
        ("a.txt", b"/annex/objects/MD5-s1--0", "a git-annex pointer"),
        ("a.json", b"\xef\xbb\xbf\n<!DOCTYPE html><title>Log in</title>", "a web page"),
        ("a.csv", b'<?xml version="1.0"?><Error><Code>AccessDenied</Code>', "a web page"),
        ("a.json", b"<!-- moved --><p>elsewhere", "a web page"),
        ("a.csv", b"PK\x03\x04rows", "a zip archive or a workbook"),
        ("a.jsonl", gzip.compress(b"{}", mtime=0), "compressed (gz); name it a.jsonl.gz"),
    ],
)
def test_what_a_file_really_is(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        check_kind(tmp_path / name)
    assert expected in str(error.value)


def test_all_that_is_fetched_from_a_hub_can_be_read() -> None:
    assert {extension(Path(pattern)) for pattern in DATA_FILES} == READERS.keys() - {".yml", ".yaml"}
