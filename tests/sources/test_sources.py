"""Sources: local paths, and packages through the real pip from an index made here."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from softprompt.runtime.errors import InputError
from softprompt.sources import digest, fetched
from tests.toy import data_params


def everything(files: list[Path]) -> list[Path]:
    return files


Checksum = str | dict[str, str] | None


def contents(source: str, sha256: Checksum = None) -> dict[str, str]:
    with fetched(data_params(source, sha256=sha256), "data", everything) as found:
        return {path.relative_to(found.base).as_posix(): path.read_text(encoding="utf-8") for path in found.files}


def refused(source: str, sha256: Checksum = None, revision: str | None = None) -> str:
    with (
        pytest.raises(InputError) as error,
        fetched(data_params(source, sha256=sha256, revision=revision), "data", everything),
    ):
        pass
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip's own configuration names as the only place to look in."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for version in ("1.0", "2.0"):
        info = f"toy_corpus-{version}.dist-info"
        with zipfile.ZipFile(folder / f"toy_corpus-{version}-py3-none-any.whl", "w") as wheel:
            wheel.writestr("toy_corpus/data/b.txt", f"b {version}")
            wheel.writestr("toy_corpus/data/a.txt", f"a {version}")
            wheel.writestr("toy_corpus/other/a.txt", "other")
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: toy-corpus\nVersion: {version}\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
    (folder / "source_only-1.0.tar.gz").write_bytes(b"a source package: taking it would run its code")
    config = tmp_path / "pip.conf"
    config.write_text(f"[global]\nno-index = true\nfind-links = {folder}\n", encoding="utf-8")
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    return folder


@pytest.mark.usefixtures("index")
class TestPackages:
    def test_a_member_of_the_named_version(self) -> None:
        assert contents("pypi://toy-corpus==1.0#toy_corpus/data/a.txt") == {"a.txt": "a 1.0"}
        assert contents("pypi://toy-corpus==2.0#toy_corpus/data/*.txt") == {"a.txt": "a 2.0", "b.txt": "b 2.0"}

    def test_no_such_package(self) -> None:
        assert "no such package" in refused("pypi://no-such-corpus==1.0#a")

    def test_no_such_version(self) -> None:
        assert "no such version with a wheel; there are 1.0, 2.0" in refused("pypi://toy-corpus==3.0#a")

    def test_a_source_package_is_not_taken(self) -> None:
        assert "none with a wheel" in refused("pypi://source-only==1.0#a")

    def test_no_such_member(self) -> None:
        message = refused("pypi://toy-corpus==1.0#toy_corpus/data/*.csv")
        assert "no member toy_corpus/data/*.csv in toy_corpus-1.0" in message
        assert "it holds toy_corpus/data/a.txt, toy_corpus/data/b.txt" in message

    def test_members_of_one_name_keep_their_folders(self) -> None:
        found = contents("pypi://toy-corpus==1.0#toy_corpus/*/a.txt")
        assert found == {"data/a.txt": "a 1.0", "other/a.txt": "other"}

    @pytest.mark.parametrize("reference", ["toy-corpus", "toy-corpus==1.0", "toy-corpus#a", "--help==1#a", "a==1 b#c"])
    def test_a_malformed_reference(self, reference: str) -> None:
        assert "expected pypi://NAME==VERSION#MEMBER" in refused(f"pypi://{reference}")


def test_an_index_that_can_not_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "pip.conf"
    config.write_text("[global]\nindex-url = http://127.0.0.1:9/simple\nretries = 1\n", encoding="utf-8")
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    assert "pip can't reach the package index" in refused("pypi://toy-corpus==1.0#a")


def test_paths(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    assert contents(str(tmp_path / "a.txt")) == {"a.txt": "a.txt"}
    assert contents(str(tmp_path)) == contents(str(tmp_path / "*.txt")) == {"a.txt": "a.txt", "b.txt": "b.txt"}
    assert "no such file or folder" in refused(str(tmp_path / "c.txt"))


def test_the_digest_covers_the_paths(tmp_path: Path) -> None:
    """Two sets with the same files in other folders are two sets."""
    for name in ("one/a/rows", "one/b/rows", "two/a/rows", "two/c/rows"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(name[4], encoding="utf-8")
    (tmp_path / "two/c/rows").write_text("b", encoding="utf-8")
    assert contents(str(tmp_path / "one/*/rows")) == {"a/rows": "a", "b/rows": "b"}
    bases = [tmp_path / "one", tmp_path / "two"]
    first, second = (digest(sorted(base.glob("*/rows")), base) for base in bases)
    assert first != second


def test_an_unknown_scheme() -> None:
    assert "unknown scheme ftp://; allowed: hf://, ms://, pypi://, s3://, https://, http://, or a path" in refused(
        "ftp://host/file"
    )


def test_a_revision_of_what_has_none(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a", encoding="utf-8")
    assert "data.revision is for hf:// and ms:// sources" in refused(str(tmp_path / "a.txt"), revision="main")


def test_the_digest_of_one_file_and_of_several(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"1")
    b.write_bytes(b"2")
    one, two = (hashlib.sha256(path.read_bytes()).hexdigest() for path in (a, b))
    assert digest([a], tmp_path) == one
    # What `sha256sum a b | sort | sha256sum` prints.
    lines = "".join(sorted([f"{one}  a\n", f"{two}  b\n"]))
    assert digest([b, a], tmp_path) == hashlib.sha256(lines.encode()).hexdigest()


def test_a_checksum_that_does_not_match_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1")
    good = hashlib.sha256(b"1").hexdigest()
    assert contents(str(path), good) == {"a": "1"}
    message = refused(str(path), "0" * 64)
    assert message.startswith("data.sha256: ")
    assert good in message
    assert "0" * 64 in message


def test_a_checksum_belongs_to_its_source(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    good = {str(one): hashlib.sha256(b"1").hexdigest()}
    assert contents(str(one), good) == {"one": "1"}
    assert contents(str(two), good) == {"two": "2"}, "another source forgets it"
    assert "data.sha256: the bytes of" in refused(str(two), {**good, str(two): "0" * 64})
