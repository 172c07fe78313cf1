"""An adapter that is copied elsewhere finds its model, or asks no hub for somebody else's."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM

from softprompt.provenance.base_name import base_name
from tests.conftest import Run
from tests.hub import Hub
from tests.toy import write_params


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("hf://owner/model", ("owner/model", "abc")),
        ("hf://owner/model#Q4.gguf", ("hf://owner/model#Q4.gguf", None)),
        ("ms://owner/model", ("ms://owner/model", None)),
        ("models/local", ("path:models/local", None)),
        ("pypi://a==1#b.gguf", ("pypi://a==1#b.gguf", None)),
    ],
)
def test_the_name_of_a_base_model(tmp_path: Path, source: str, expected: tuple) -> None:
    (tmp_path / "source.json").write_text(json.dumps({"source": source, "commit": "abc"}), encoding="utf-8")
    assert base_name(tmp_path) == expected


def test_an_adapter_of_a_hubs_model_loads_from_any_folder(
    finished_project: Path, run: Run, hub: Hub, toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {file.name: file.read_bytes() for file in toy_model.iterdir()}
    repository = hub.repository("owner/portable")
    commit = repository.commit(files)
    write_params(finished_project, **{"model.source": "owner/portable", "train.init": "text"})
    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        run("fetch_model", "tokenize", "train")
        repository.commit({**files, "config.json": b"{}"})  # the branch has moved
        copy = shutil.copytree(finished_project / "models/adapter", tmp_path / "copy")
        model = AutoPeftModelForCausalLM.from_pretrained(str(copy))
    assert f'owner/portable", revision="{commit}' in (copy / "README.md").read_text(encoding="utf-8")
    here = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("models/base"), "models/adapter")
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, here(input_ids=ids).logits)


def test_an_adapter_of_another_model_asks_for_no_repository(finished: Path, tmp_path: Path, hub: Hub) -> None:
    copy = shutil.copytree(finished / "models/adapter", tmp_path / "copy")
    assert json.loads((copy / "adapter_config.json").read_text())["base_model_name_or_path"] == "path:toy/model"
    with pytest.raises(Exception, match="path:toy/model"):
        AutoPeftModelForCausalLM.from_pretrained(str(copy))
    assert not [path for _, path, _ in hub.requests if "toy/model" in path]
    card = (copy / "README.md").read_text(encoding="utf-8")
    assert "base_model:" not in card
    assert 'BASE = "models/base"' in card
