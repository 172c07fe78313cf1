"""What stands in the place of a model's files is named before anything reads it as one."""

from pathlib import Path

import pytest

from tests.conftest import Refusal

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0a1b2c\nsize 988097824\n"
FILES = ("model.safetensors", "config.json", "tokenizer.json", "model.safetensors.index.json")


@pytest.mark.parametrize("name", FILES)
def test_a_pointer_of_git_lfs(refusal: Refusal, name: str) -> None:
    Path("toy/model", name).write_bytes(POINTER)
    assert f"{name} is a Git LFS pointer, not the file itself; " in refusal("fetch_model")


def test_a_pointer_in_place_of_gguf(refusal: Refusal) -> None:
    Path("toy/tiny.gguf").write_bytes(POINTER)
    message = refusal("fetch_model", **{"model.source": "toy/tiny.gguf"})
    assert "tiny.gguf is a Git LFS pointer, not the file itself; " in message


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"weight_map": 1}'])
def test_a_broken_file(refusal: Refusal, name: str, content: bytes) -> None:
    Path("toy/model", name).write_bytes(content)
    message = refusal("fetch_model")
    assert message.startswith("error: model.source: 'toy/model': not a")
    assert len(message.splitlines()) == 1
