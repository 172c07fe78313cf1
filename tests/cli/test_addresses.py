"""`--adapter hf://`: what is refused, what is never fetched."""

import os
from pathlib import Path

import pytest

from tests.cli.conftest import Command, copy_of
from tests.cli.publishing import ASKED, command, published
from tests.hub import Hub, Repository, wrong_bytes


@pytest.fixture
def there(answer: Command, hub: Hub, name: str) -> Repository:
    answer("push", name)
    hub.requests.clear()
    return hub.repositories["models", name]


@pytest.mark.parametrize("address", ["hf://owner", "hf://", "hf://a/b@", "hf://a/b#c", "hf://a/b/c", "hf://a/b@\udcff"])
def test_a_malformed_one(refusal: Command, hub: Hub, address: str) -> None:
    hub.requests.clear()
    assert "allowed: hf://OWNER/NAME, hf://OWNER/NAME@REVISION" in refusal(*ASKED, address)
    assert hub.requests == []


@pytest.mark.parametrize("token", ["hf_s\u00e9cret", "hf_s\udcffcret", "hf_s cret", "hf_s\x1bcret"])
def test_what_can_be_no_token(
    refusal: Command, hub: Hub, name: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    hub.requests.clear()
    for shown in (refusal(*ASKED, f"hf://{name}"), refusal("push", name)):
        assert "HF_TOKEN has a character that no token has" in shown
        assert "cret" not in shown
    assert hub.requests == []


def test_no_such_repository_or_revision(refusal: Command, name: str, there: Repository) -> None:
    assert "is no model repository at http://127.0.0.1" in refusal(*ASKED, f"hf://{name}-x")
    assert f"hf://{name}@v9 has no such revision" in refusal(*ASKED, f"hf://{name}@v9")


def test_gated(refusal: Command, name: str, there: Repository) -> None:
    there.token = "hf_other"
    assert "is gated: accept its terms" in refusal(*ASKED, f"hf://{name}")


def test_out_of_reach(repository: Path, name: str) -> None:
    for variables, message in (
        ({"HF_HUB_OFFLINE": "1"}, "can't be reached offline (HF_HUB_OFFLINE), and is not in the cache; unset it"),
        (
            {"HF_ENDPOINT": "http://127.0.0.1:9"},
            "can't be reached at http://127.0.0.1:9 (ConnectError), and is not",
        ),
    ):
        out = command(*ASKED, f"hf://{name}", folder=repository, **variables)
        assert out.returncode == 1
        assert message in out.stderr
        assert len(out.stderr.splitlines()) == 1


def test_wrong_bytes_do_not_stay(refusal: Command, answer: Command, hub: Hub, name: str, there: Repository):
    hub.faults["origin.json"] = [wrong_bytes]
    message = refusal(*ASKED, f"hf://{name}")
    assert f"hf://{name}: origin.json is damaged" in message
    assert "it was removed from the cache" in message
    assert str(Path(os.environ["HF_HOME"])) not in message.partition("(its SHA-256")[0]
    answer(*ASKED, f"hf://{name}")


def test_pickled_weights_are_not_fetched(refusal: Command, hub: Hub, name: str, there: Repository) -> None:
    files = published(hub, name)
    del files["adapter_model.safetensors"]
    there.commit({**files, "adapter_model.bin": b"pickle", "code.py": b"1"})
    message = refusal(*ASKED, f"hf://{name}")
    assert "it has no adapter_model.safetensors" in message
    assert not {"adapter_model.bin", "code.py"} & set(hub.downloads())


def test_files_beside_the_adapter_do_not_matter(answer: Command, hub: Hub, name: str, there: Repository) -> None:
    there.commit({**published(hub, name), "adapter_model.bin": b"pickle", "picture.png": b"x"})
    answer(*ASKED, f"hf://{name}")
    assert not {"adapter_model.bin", "picture.png"} & set(hub.downloads())


def test_a_manifest_that_names_more(refusal: Command, hub: Hub, name: str, there: Repository) -> None:
    files = published(hub, name)
    there.commit({**files, "x.bin": b"x", "SHA256SUMS": files["SHA256SUMS"] + b"0" * 64 + b"  x.bin\n"})
    assert f"hf://{name}: x.bin is missing" in refusal(*ASKED, f"hf://{name}")
    assert "x.bin" not in hub.downloads()


def test_of_another_model(refusal: Command, answer: Command, name: str, repository: Path, tmp_path: Path) -> None:
    answer("push", name, "--adapter", copy_of(repository / "models/adapter", tmp_path / "a", base_sha256="f" * 64))
    assert "was tuned on another model" in refusal(*ASKED, f"hf://{name}")
