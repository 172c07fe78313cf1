"""README.md of a data set: which of its files it says are which split, and what it may not say."""

import logging
from pathlib import Path

import pytest

from softprompt.data.readers.splits import files_by_split, wanted_files
from softprompt.runtime.errors import InputError

CONFIGS = (
    "---\nconfigs:\n- config_name: default\n  data_files:\n  - {{split: train, path: {train}}}\n"
    "  - {{split: test, path: {test}}}\n---\n"
)


@pytest.fixture
def header(tmp_path: Path):
    """A README.md of the given bytes or text."""

    def write(content: str | bytes) -> Path:
        path = tmp_path / "README.md"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def refused(names: list[str], header: Path, asked: set[str] | None = None) -> str:
    with pytest.raises(InputError) as error:
        files_by_split(names, header, None, asked)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_header_counts_whatever_its_line_ends_and_its_byte_order_mark(header, mark, end) -> None:
    content = CONFIGS.format(train="b.json", test="a.json").encode().replace(b"\n", end)
    assert files_by_split(["a.json", "b.json"], header(mark + content), None) == {
        "train": ["b.json"],
        "test": ["a.json"],
    }


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"---\nconfigs: [\n---\n", "README.md: its header can't be read: while parsing"),
        (b"---\n- a\n- b\n---\n", "README.md: its header can't be read: "),
        (b"---\nconfigs: 5\n---\n", "Expected configs to be a list"),
        (b"---\nconfigs: [5]\n---\n", "README.md: its header can't be read: "),
        (b"---\nconfigs:\n- {config_name: a, data_files: {b: c}}\n---\n", "Expected data_files in YAML to be"),
        ("---\nlicense: é\n---\n".encode("latin-1"), "README.md is not UTF-8 text (byte 13)"),
    ],
)
def test_a_broken_header_is_one_line(header, content, expected) -> None:
    assert expected in refused(["a.json"], header(content))


def test_a_card_without_a_header_says_nothing(header, caplog) -> None:
    for content in ("# Rows\n", "---\nnever closed\n", "---\n\n---\n", ""):
        with caplog.at_level(logging.WARNING):
            assert files_by_split(["a.json"], header(content), None) == {"train": ["a.json"]}
        with pytest.raises(InputError, match="there is no 'en'; the data set has: none"):
            files_by_split(["a.json"], header(content), "en")
    assert caplog.text == ""


@pytest.mark.parametrize(
    "pattern",
    ["http://127.0.0.1:9/a.json", "hf://datasets/o/n/a.json", "/etc/*", "../*.json", "a/../../b.json", "'zip::a'", "5"],
)
@pytest.mark.parametrize("place", ["path", "data_dir"])
def test_no_header_leads_out_of_the_data_set(header, pattern, place) -> None:
    content = CONFIGS.format(train=f"[{pattern}]", test="a.json")
    if place == "data_dir":
        content = f"---\nconfigs:\n- config_name: default\n  data_dir: {pattern}\n---\n"
    assert "is no path within the data set" in refused(["a.json"], header(content))


def test_what_a_header_names_and_is_not_there_is_named_where_it_is_wanted(header) -> None:
    path = header(CONFIGS.format(train="a.json", test="'test-*.json'"))
    expected = "README.md: no data file matches test-*.json, of its split test"
    assert files_by_split(["a.json"], path, None, {"train"}) == {"train": ["a.json"]}
    assert expected in refused(["a.json"], path, {"test"})
    assert expected in refused(["a.json"], path, None)
    with pytest.raises(InputError, match="no data file matches test"):
        wanted_files({"data.split": "train[:1]", "data.test_split": "test"}, None, ["a.json"], path, None)
    several = header(CONFIGS.format(train="[a.json, 'more-*.json']", test="[a.json, b.json]"))
    assert files_by_split(["a.json"], several, None, {"train"})["train"] == ["a.json"], "a glob may match nothing"
    assert "no data file matches b.json" in refused(["a.json"], several, {"test"})


def test_names_tell_the_splits_in_any_case(header) -> None:
    names = ["Data/Train.JSON", "Data/Test.Json", "Data/test-2.json"]
    assert files_by_split(names, None, None) == {
        "train": ["Data/Train.JSON"],
        "test": ["Data/test-2.json", "Data/Test.Json"],
    }
    path = header("---\nconfigs:\n- config_name: default\n  data_dir: Data\n---\n")
    assert files_by_split(names, path, None)["train"] == ["Data/Train.JSON"]
    path = header(CONFIGS.format(train="Data/Train.JSON", test="Data/Test.*"))
    assert files_by_split(names, path, None) == {"train": ["Data/Train.JSON"], "test": ["Data/Test.Json"]}


def test_where_rows_can_not_be_counted_all_files_of_the_split_are_wanted() -> None:
    names = [f"train-0000{number}-of-00003.parquet" for number in range(3)]
    counts = {names[0]: 5, names[1]: None, names[2]: 5}
    assert wanted_files({"data.split": "train[:2]"}, None, names, None, counts.get) == (names, {})
    counts[names[1]] = 5
    assert wanted_files({"data.split": "train[:2]"}, None, names, None, counts.get) == (
        names[:1],
        {names[1]: 5, names[2]: 5},
    )
