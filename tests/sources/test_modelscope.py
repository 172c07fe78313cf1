"""ms:// through the real `modelscope_hub`, from a server on loopback that speaks the part of its API that reads."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from softprompt.data.readers import Rows, Wanted, select_data_files
from softprompt.runtime.errors import InputError
from softprompt.sources import fetched
from softprompt.sources.checkpoint import select_model_files
from tests.clones import OURS
from tests.toy import ROOT, data_params, model_params, write_params

TOKEN = "ms-secret-secret"


class ModelScope(ThreadingHTTPServer):
    """Repositories by kind, name and revision; `faults` by file: status codes, or bytes to send in its place."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[tuple[str, str, str], dict[str, bytes]] = {}
        self.faults: dict[str, list[int | bytes]] = defaultdict(list)
        self.gated = False
        self.downloads: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: ModelScope

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        parts = address.path.removeprefix("/api/v1/").split("/")
        files = self.server.repositories.get((parts[0], "/".join(parts[1:3]), query.get("Revision", "")))
        if files is None:
            self.answer(404, b'{"Code": 10010205001, "Message": "not found", "Success": false}')
        elif self.server.gated and TOKEN not in str(self.headers):
            self.answer(403, b'{"Code": 403, "Message": "no access", "Success": false}')
        elif parts[3:] in (["repo", "files"], ["repo", "tree"]):
            entries = [
                {"Path": name, "Size": len(content), "Sha256": hashlib.sha256(content).hexdigest(), "Type": "blob"}
                for name, content in files.items()
            ]
            self.answer(200, json.dumps({"Code": 200, "Success": True, "Data": {"Files": entries}}).encode())
        else:
            name = query["FilePath"]
            self.server.downloads.append(name)
            fault = self.server.faults[name].pop(0) if self.server.faults[name] else None
            body = fault if isinstance(fault, bytes) else files[name]
            self.answer(fault if isinstance(fault, int) else 200, body)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_model: Path) -> Iterator[ModelScope]:
    server = ModelScope()
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    files = {path.name: path.read_bytes() for path in toy_model.iterdir()}
    server.repositories["models", "owner/toy", "master"] = {**files, "pytorch_model.bin": b"x"}
    rows = json.dumps([{"instruction": f"问题 {n}", "output": f"答案 {n}"} for n in range(20)]).encode()
    server.repositories["datasets", "owner/rows", "master"] = {"train.json": rows, "README.md": b"# rows"}
    yield server
    server.shutdown()


def fetch(source: str = "ms://owner/toy", revision: str | None = None) -> tuple[dict[str, bytes], dict]:
    with fetched(model_params(source, revision=revision), "model", select_model_files) as found:
        return {path.name: path.read_bytes() for path in found.files}, dict(found.record)


def refused(source: str = "ms://owner/toy", revision: str | None = None) -> str:
    with pytest.raises(InputError) as error:
        fetch(source, revision)
    assert len(str(error.value).splitlines()) == 1
    assert TOKEN not in str(error.value)
    return str(error.value)


def test_a_model(hub: ModelScope, toy_model: Path) -> None:
    files, record = fetch()
    assert files["model.safetensors"] == (toy_model / "model.safetensors").read_bytes()
    assert "pytorch_model.bin" not in hub.downloads
    assert record["revision"] == "master"
    assert len(record["listing"]) == 64
    hub.downloads.clear()
    assert fetch() == (files, record)
    assert hub.downloads == [], "it is in ModelScope's cache"


def test_a_data_set(hub: ModelScope) -> None:
    params = data_params("ms://owner/rows")
    with fetched(params, "data", select_data_files) as found:
        wanted = Wanted("train", "train", "data.split")
        rows = list(Rows(found, params, [wanted]).rows(wanted))
    assert len(rows) == 20
    assert rows[3]["messages"][1]["content"] == "答案 3"


def test_a_home_that_cannot_be_written_to(hub: ModelScope, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MODELSCOPE_CACHE", "MODELSCOPE_HOME", "XDG_CACHE_HOME", "DVC_ROOT"):
        monkeypatch.delenv(variable, raising=False)
    write_params(project, **{"model.source": "ms://owner/toy"})
    environment = {**os.environ, "PYTHONPATH": OURS, "HOME": "/proc", "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "stages.fetch_model"]
    out = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert (project / ".user_cache/modelscope").is_dir()


def test_a_moved_branch_is_a_message(hub: ModelScope, capfd: pytest.CaptureFixture[str]) -> None:
    fetch()
    hub.repositories["models", "owner/toy", "master"]["generation_config.json"] = b"{}"
    assert fetch()[0]["generation_config.json"] == b"{}"
    assert "ms://owner/toy@default branch has moved since the last fetch" in capfd.readouterr().out


def test_no_such_repository_or_revision(hub: ModelScope) -> None:
    assert "no such model repository at http://127.0.0.1" in refused("ms://owner/none")
    assert "no revision 'v9' of it" in refused(revision="v9")


def test_gated(hub: ModelScope, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.gated = True
    assert "ModelScope refuses access to owner/toy: accept its terms" in refused()
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", TOKEN)
    assert fetch()[1]["revision"] == "master"


def test_wrong_bytes(hub: ModelScope, toy_model: Path) -> None:
    whole = (toy_model / "model.safetensors").read_bytes()
    hub.faults["model.safetensors"] = [bytes(255 - byte for byte in whole)] * 9
    assert "model.safetensors could not be downloaded" in refused()
    hub.faults.clear()
    assert fetch()[0]["model.safetensors"] == whole


def test_out_of_reach(hub: ModelScope, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    assert "can't reach ModelScope at http://127.0.0.1:9" in refused()


def test_without_the_extra_the_command_is_named(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['modelscope_hub'] = None\n"
        "from softprompt.sources import fetched; from tests.toy import model_params\n"
        "with fetched(model_params('ms://a/b'), 'model', list): pass\n"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "ms:// needs one more package: pip install modelscope-hub==" in out.stderr
