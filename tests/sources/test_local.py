"""Local sources: links that DVC can and can't see through, and what lies where it does not look."""

import hashlib
from pathlib import Path

import pytest

from softprompt.data.readers import select_data_files
from softprompt.runtime.errors import InputError
from softprompt.sources import fetched
from softprompt.sources.local import find
from tests.conftest import Refusal, Run
from tests.toy import data_params, write_params

ROWS = '[{"instruction": "a", "output": "b"}]'


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a repository, with a folder of rows outside of it."""
    for name in ("elsewhere/deep", "root/data/local", "root/models/local"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("elsewhere/rows.json", "elsewhere/deep/rows.json"):
        (tmp_path / name).write_text(ROWS, encoding="utf-8")
    monkeypatch.chdir(tmp_path / "root")
    return tmp_path / "root"


@pytest.mark.parametrize("source", ["linked/rows.json", "linked", "linked/*.json", "*/rows.json", "linked/deep"])
def test_a_link_to_a_folder_is_refused(root: Path, source: str) -> None:
    (root / "data/local/linked").symlink_to("../../../elsewhere")
    for path in (f"data/local/{source}", f"{root}/data/local/{source}", f"./data/../data/local/{source}"):
        with pytest.raises(InputError, match="data/local/linked is a link to a folder, into"):
            find(path, select_data_files, nested=True)


def test_a_link_to_a_file_is_read(root: Path) -> None:
    (root / "data/local/rows.json").symlink_to("../../../elsewhere/rows.json")
    assert find("data/local/rows.json", select_data_files, nested=True).files == [Path("data/local/rows.json")]
    assert find("data/local", select_data_files, nested=True).files == [Path("data/local/rows.json")]


def test_the_watched_folder_may_be_a_link_itself(root: Path) -> None:
    (root / "data/local").rmdir()
    (root / "data/local").symlink_to("../../elsewhere")
    assert find("data/local/rows.json", select_data_files, nested=True).files == [Path("data/local/rows.json")]


def test_files_elsewhere_are_read_with_a_word_on_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with fetched(data_params("../elsewhere/rows.json"), "data", select_data_files):
        pass
    assert "lies outside of data/local/ and models/local/, where DVC sees changes" in capsys.readouterr().out
    (root / "data/local/rows.json").write_text(ROWS, encoding="utf-8")
    with fetched(data_params("data/local/rows.json"), "data", select_data_files):
        pass
    assert capsys.readouterr().out == ""


def test_rows_of_two_files_of_one_name_are_told_apart(run: Run, refusal: Refusal, project: Path) -> None:
    for name in ("en", "zh"):
        (project / f"toy/{name}").mkdir()
        (project / f"toy/{name}/train.json").write_text(ROWS.replace("a", name), encoding="utf-8")
    write_params(project, **{"data.source": "toy/*/train.json"})
    run("fetch_data")
    import pyarrow.parquet as pq

    assert pq.read_table("data/raw/rows.parquet")["source"].to_pylist() == ["en/train", "zh/train"]
    (project / "toy/zh/train.json").write_text('[{"x": 1}]', encoding="utf-8")
    assert "zh/train.json: the columns are x; known are" in refusal("fetch_data")


def test_a_model_out_of_several_folders_is_refused(refusal: Refusal) -> None:
    (Path("toy/model/copy")).mkdir()
    for file in Path("toy/model").glob("*.*"):
        (Path("toy/model/copy") / file.name).write_bytes(file.read_bytes())
    message = refusal("fetch_model", **{"model.source": "toy/model/**/*.*"})
    assert "config.json" in message
    assert "a model is the files of one folder" in message


def test_what_stands_in_place_of_a_file_is_named_with_its_source(root: Path) -> None:
    """The file's name begins like a parameter's."""
    (root / "data/local/data.csv").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with (
        pytest.raises(InputError, match=r"^data.source: 'data/local/data.csv': data.csv is a Git LFS pointer"),
        fetched(data_params("data/local/data.csv"), "data", select_data_files),
    ):
        pass


def test_files_of_splits_that_nobody_wants_are_neither_checked_nor_hashed(
    run: Run, refusal: Refusal, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (project / "toy/set").mkdir()
    (project / "toy/set/train.json").write_text(ROWS, encoding="utf-8")
    (project / "toy/set/test.json").write_text(ROWS, encoding="utf-8")
    one = hashlib.sha256(ROWS.encode()).hexdigest()
    write_params(project, **{"data.source": "toy/set", "data.sha256": one})
    run("fetch_data")
    assert "toy/set: 1 of 2 rows" in capfd.readouterr().out
    (project / "toy/set/test.json").write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8")
    run("fetch_data")
    changes = {"data.sha256": None, "data.test_split": "test"}
    assert "test.json is a Git LFS pointer" in refusal("fetch_data", **changes)
    header = "---\nconfigs:\n- {config_name: default, data_files: no.json}\n---\n"
    (project / "toy/set/README.md").write_text(header, encoding="utf-8")
    assert "README.md: no data file matches no.json, of its split train" in refusal("fetch_data")
