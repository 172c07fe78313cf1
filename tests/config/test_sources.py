"""Addresses in params.yaml, and the checksums of what is fetched from them."""

from pathlib import Path
from typing import Any

import pytest

from softprompt.config import load_params
from tests.config.test_params import refused
from tests.toy import write_params


@pytest.mark.parametrize("checksum", [None, "0" * 64, {}, {"hf://a/b": "0" * 64, "https://a/b?c=d#e.f": "f" * 64}])
@pytest.mark.parametrize("section", ["model", "data", "general"])
def test_a_checksum_alone_or_by_source(tmp_path: Path, section: str, checksum: Any) -> None:
    write_params(tmp_path, **{f"{section}.sha256": checksum})
    assert getattr(load_params(tmp_path / "params.yaml"), section).sha256 == checksum


def test_a_password_in_the_address_of_a_checksum_is_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, **{"data.sha256": {"https://alice:hunter2@host/x.json": "0" * 64}})
    assert "params.yaml: data.sha256: " in message
    assert "an address without user name and password" in message
    assert "hunter2" not in message


@pytest.mark.parametrize("key", ["model.source", "data.source", "general.source"])
@pytest.mark.parametrize(
    "address",
    ["https://alice:hunter2@host/x.json", f"s3://alice:{'hunter2' * 20}@b/x.json", "http://hunter2@host/x?a=b"],
)
def test_a_password_in_an_address_is_refused_and_not_repeated(tmp_path: Path, key: str, address: str) -> None:
    message = refused(tmp_path, **{key: address})
    assert f"params.yaml: {key}: " in message
    assert "an address without user name and password" in message
    assert "hunter2" not in message
    assert "alice" not in message
