"""https:// and s3:// through fsspec, from servers on loopback."""

import json
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from softprompt.data.readers import Rows, Wanted, select_data_files
from softprompt.data.readers.splits import wanted_files
from softprompt.runtime.errors import InputError
from softprompt.sources import fetched
from softprompt.sources.checkpoint import select_model_files
from tests.toy import data_params, model_params

ROWS = json.dumps([{"instruction": "a", "output": "b"}]).encode()
SECRET = "AKIASECRETSECRET"


def contents(source: str) -> dict[str, bytes]:
    with fetched(data_params(source), "data", select_data_files) as found:
        assert found.repository is None
        return {path.relative_to(found.base).as_posix(): path.read_bytes() for path in found.files}


def refused(source: str) -> str:
    with pytest.raises(InputError) as error:
        contents(source)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert SECRET not in message
    return message


class Files(BaseHTTPRequestHandler):
    """Answers by path."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        code = {"/rows.json": 200, "/cut.json": 200, "/huge.json": 200, "/secret.json": 403}.get(path, 404)
        self.send_response(code)
        length = {"/cut.json": len(ROWS) + 9, "/huge.json": 10**16}.get(path, len(ROWS) if code == 200 else 0)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if code == 200 and self.command == "GET":
            self.wfile.write(ROWS)


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


class TestWeb:
    def test_a_file(self, web: str) -> None:
        assert contents(f"{web}/rows.json") == contents(f"{web}/rows.json?download=1") == {"rows.json": ROWS}

    def test_no_such_file(self, web: str) -> None:
        assert "no such object" in refused(f"{web}/missing.json")

    def test_access_refused(self, web: str) -> None:
        assert "can't be downloaded: 403" in refused(f"{web}/secret.json")

    def test_a_connection_that_breaks_off(self, web: str) -> None:
        assert "can't be downloaded" in refused(f"{web}/cut.json")

    def test_no_room(self, web: str) -> None:
        assert "not enough disk: 10000000.00 GB are needed" in refused(f"{web}/huge.json")

    def test_what_is_secret_in_an_address_is_shown_nowhere(self, web: str, capsys: pytest.CaptureFixture[str]) -> None:
        query = f"X-Amz-Credential={SECRET}%2Frows&X-Amz-Signature={SECRET}"
        with fetched(data_params(f"{web}/rows.json?{query}"), "data", select_data_files) as found:
            assert found.record["source"] == f"{web}/rows.json?X-Amz-Credential=…&X-Amz-Signature=…"
        for name in ("missing", "secret", "cut"):
            assert "X-Amz-Signature=…" in refused(f"{web}/{name}.json?{query}")
        assert SECRET not in capsys.readouterr().out

    def test_a_format_that_nothing_reads(self, web: str) -> None:
        assert "found .txt; allowed extensions" in refused(f"{web}/rows.txt")

    def test_out_of_reach(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        assert "check the address, the network and credentials" in refused(f"http://127.0.0.1:{port}/rows.json")

    def test_a_model_does_not_come_from_there(self, web: str) -> None:
        params = model_params(f"{web}/model.gguf")
        with pytest.raises(InputError, match="is for data"), fetched(params, "model", select_model_files):
            pass


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket behind a real S3 API."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        host, port = server.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", SECRET)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        client = boto3.client("s3")
        client.create_bucket(Bucket="rows")
        for name in ("zh/a.json", "zh/b.json", "zh/more/c.json", "zh/LICENSE", "en/a.json"):
            client.put_object(Bucket="rows", Key=name, Body=ROWS)
        header = (
            "---\nconfigs:\n- {config_name: de, data_files: de.json}\n- {config_name: en, data_files: en.json}\n---\n"
        )
        for name, body in {"README.md": header.encode(), "de.json": b"no JSON", "en.json": ROWS}.items():
            client.put_object(Bucket="rows", Key=f"described/{name}", Body=body)
        yield "s3://rows"
    server.stop()


@pytest.fixture(autouse=True)
def fresh_file_systems() -> None:
    """fsspec keeps file systems, and what they listed, for the life of a process."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()


class TestBucket:
    def test_an_object_a_folder_and_a_glob(self, bucket: str) -> None:
        assert contents(f"{bucket}/zh/a.json") == {"a.json": ROWS}
        assert contents(f"{bucket}/zh") == {"a.json": ROWS, "b.json": ROWS, "more/c.json": ROWS}
        assert contents(f"{bucket}/zh/?.json") == {"a.json": ROWS, "b.json": ROWS}

    def test_a_folder_has_the_subsets_that_its_header_says(self, bucket: str) -> None:
        from s3fs import S3FileSystem

        def first_row(subset: str | None) -> dict:
            data, wanted = data_params(f"{bucket}/described", subset=subset), [Wanted("train", "train", "data.split")]
            files = partial(wanted_files, {"data.split": "train"}, subset)
            with fetched(data, "data", select_data_files, files) as found:
                assert [file.name for file in found.files] == ["en.json"], "no other file is fetched"
                return next(Rows(found, data, wanted).rows(wanted[0]))

        assert [turn["content"] for turn in first_row("en")["messages"]] == ["a", "b"]
        S3FileSystem.clear_instance_cache()
        with pytest.raises(InputError, match=r"data.subset: one has to be named; the data set has: de, en"):
            first_row(None)

    def test_objects_of_one_name_keep_their_folders(self, bucket: str) -> None:
        assert contents(f"{bucket}/*/a.json") == {"en/a.json": ROWS, "zh/a.json": ROWS}
        assert contents(f"{bucket}/zh/**/*.json").keys() == {"a.json", "b.json", "more/c.json"}

    @pytest.mark.parametrize("path", ["/zh/z.json", "/de/*.json", "-of-nobody/a.json"])
    def test_no_such_object_or_bucket(self, bucket: str, path: str) -> None:
        assert "no such object; check host or bucket, and path" in refused(f"{bucket}{path}")

    def test_no_credentials(self, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(tmp_path))
        message = refused(f"{bucket}/zh/a.json")
        assert "credentials" in message

    def test_an_endpoint_out_of_reach(self, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        assert "Could not connect to the endpoint URL" in refused(f"{bucket}/zh/a.json")
