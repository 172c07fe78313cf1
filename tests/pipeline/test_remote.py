"""Outputs shared through S3 (a server on loopback that speaks its API): push, pull, what goes wrong, the registry."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.clones import call, cloned, stages_run

BUCKET = "pipeline"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield f"s3://{BUCKET}/dvc"
    server.stop()


@pytest.fixture
def pushed(clone: Path, s3: str) -> Path:
    """The finished clone, whose outputs are on the remote."""
    assert f"remote: {s3}, in .dvc/config: commit it" in call(clone, f"make remote URL={s3}")
    call(clone, "dvc push")
    return clone


@pytest.fixture
def second(pushed: Path, tmp_path: Path, s3: str) -> Path:
    """A clone elsewhere, without outputs."""
    folder = cloned(pushed, tmp_path / "second")
    call(folder, f"make remote URL={s3}")
    return folder


def test_an_experiment_is_shared(pushed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # offline: no hub, no package index, no telemetry
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    call(pushed, "git commit -qam remote")
    one, other = (cloned(pushed, tmp_path / name) for name in ("one", "other"))
    try:
        call(one, "dvc pull")
        output = call(one, "dvc exp run --name shorter -S train.max_steps=3")
        assert stages_run(output) == ["train", "evaluate", "report"]
        call(one, "dvc exp push origin shorter")
        assert "shorter" in call(other, "dvc exp list origin")
        call(other, "dvc pull && dvc exp pull origin shorter")
        call(other, "dvc exp branch shorter short && git switch short && dvc checkout")
        assert stages_run(call(other, "make repro")) == []
        assert (other / "dvc.lock").read_bytes() == (one / "dvc.lock").read_bytes()
    finally:
        call(pushed, "dvc exp remove -q --all-commits; git reset -q --hard HEAD~1")


def key_of(file: Path) -> str:
    digest = hashlib.md5(file.read_bytes()).hexdigest()
    return f"dvc/files/md5/{digest[:2]}/{digest[2:]}"


@pytest.mark.parametrize("command", ["dvc pull", "dvc repro --pull"])
def test_a_second_clone_gets_everything_and_trains_nothing(second: Path, command: str) -> None:
    assert stages_run(call(second, command)) == []
    assert "up to date" in call(second, "dvc status")
    assert stages_run(call(second, "make repro")) == []
    assert "| models/local/toy" in call(second, "softprompt provenance"), "every file is hashed"


def test_ci_takes_what_the_remote_has(second: Path) -> None:
    """Secrets that a workflow has not got are empty, which is no value."""
    output = call(second, "AWS_SESSION_TOKEN= AWS_PROFILE= AWS_ENDPOINT_URL_S3= AWS_CA_BUNDLE= make ci")
    assert stages_run(output) == []
    assert "HEAD: the same bytes" in output


def test_what_is_wrong_with_the_remote_is_one_line(second: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call(second, "make remote URL=s3://no-such-bucket/dvc")
    assert "The specified bucket does not exist" in call(second, "dvc pull", ok=False)
    call(second, f"make remote URL=s3://{BUCKET}/dvc")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    output = call(second, "AWS_EC2_METADATA_DISABLED=true AWS_CONFIG_FILE=none dvc pull", ok=False)
    assert "Unable to locate credentials" in output
    assert "Traceback" not in output
    output = call(
        second, "AWS_ENDPOINT_URL=http://127.0.0.1:9 AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b dvc pull", ok=False
    )
    assert "Could not connect to the endpoint URL" in output
    assert "error: URL is 'relative/path'" in call(second, "make remote URL=relative/path", ok=False)


def test_nothing_bad_is_accepted_from_the_remote(second: Path, pushed: Path) -> None:
    client, key = boto3.client("s3"), key_of(pushed / "models/adapter/adapter_model.safetensors")
    whole = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    try:
        client.put_object(Bucket=BUCKET, Key=key, Body=b"damaged")
        output = call(second, "dvc pull", ok=False)
        assert "Checkout failed for following targets:\nmodels/adapter\n" in output
        assert not (second / "models/adapter").exists()
        client.delete_object(Bucket=BUCKET, Key=key)
        assert "The specified key does not exist" in call(second, "dvc pull", ok=False)
        assert not (second / "models/adapter").exists()
    finally:
        client.put_object(Bucket=BUCKET, Key=key, Body=whole)
    call(second, "dvc pull")
    assert "up to date" in call(second, "dvc status")


def test_another_repository_gets_the_adapter_from_the_registry(pushed: Path, tmp_path: Path) -> None:
    call(pushed, "git add -A && git commit -qm remote && git tag -a adapter@v0.0.1 -m adapter")
    try:
        call(tmp_path, f"dvc artifacts get {pushed} adapter -o got")
        names = {path.name for path in (tmp_path / "got").iterdir()}
        assert {"adapter_config.json", "adapter_model.safetensors", "origin.json"} <= names
    finally:
        call(pushed, "git tag -d adapter@v0.0.1 && git reset -q --hard HEAD~1")
