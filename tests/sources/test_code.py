"""A checkpoint that names code of its own (`auto_map`): it never runs, and transformers' own classes are loaded."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from softprompt.runtime.outputs import faults_in
from tests.conftest import Refusal, Run
from tests.hub import Hub
from tests.toy import write_params

MODEL = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
TOKENIZER = {"AutoTokenizer": [None, "own.OwnTokenizer"]}
RUN = Path("code-has-run")
LEFT_ALONE = "names is left alone, transformers' own classes are loaded"


@pytest.fixture(params=["folder", "hub"])
def source(request: pytest.FixtureRequest, project: Path, hub: Hub, name: str, monkeypatch: Any) -> str:
    """Where the project's model is from; `publish` has it there."""
    monkeypatch.delenv("HF_HUB_OFFLINE")
    return f"hf://{name}" if request.param == "hub" else "toy/model"


@pytest.fixture(autouse=True)
def code(project: Path) -> None:
    """Code that leaves a trace where anything runs it."""
    Path("toy/model/own.py").write_text(f"from pathlib import Path\nPath({str(RUN)!r}).touch()\n", encoding="utf-8")


def publish(source: str, hub: Hub, **changes: dict[str, Any]) -> None:
    """Change configurations of the toy's model by name, and have it at `source`."""
    for stem, values in changes.items():
        path = Path(f"toy/model/{stem}.json")
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")
    if name := source.removeprefix("hf://") if "://" in source else None:
        hub.repository(name).commit({path.name: path.read_bytes() for path in Path("toy/model").iterdir()})
    write_params(Path(), **{"model.source": source})


@pytest.mark.parametrize("files", [("config",), ("tokenizer_config",), ("config", "tokenizer_config")])
def test_an_architecture_of_transformers_needs_none(
    run: Run, source: str, hub: Hub, capsys: pytest.CaptureFixture[str], files: tuple[str, ...]
) -> None:
    maps = {"config": MODEL, "tokenizer_config": TOKENIZER}
    publish(source, hub, **{name: {"auto_map": maps[name]} for name in files})
    run("fetch_model")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "auto_map" in line]
    assert (
        line == f"model.source: the code that auto_map in {' and '.join(f'{name}.json' for name in files)} {LEFT_ALONE}"
    )
    base = Path("models/base")
    assert not faults_in(base)
    assert not any(b"auto_map" in path.read_bytes() for path in base.glob("*.json"))
    # Whoever trusts all code finds none either.
    assert type(AutoModelForCausalLM.from_pretrained(base, trust_remote_code=True)).__name__ == "LlamaForCausalLM"
    assert AutoTokenizer.from_pretrained(base, trust_remote_code=True)("fog")["input_ids"]
    assert not RUN.exists()


def test_without_such_a_key_bytes_are_the_sources(run: Run, source: str, hub: Hub) -> None:
    publish(source, hub)
    run("fetch_model")
    for name in ("config.json", "tokenizer_config.json", "tokenizer.json", "model.safetensors"):
        assert Path("models/base", name).read_bytes() == Path("toy/model", name).read_bytes()


@pytest.mark.parametrize(
    ("file", "changes", "expected"),
    [
        ("config", {"model_type": "own"}, "no model_type 'own'; allowed: a model of a type that it has"),
        ("config", {"architectures": ["OwnForCausalLM"]}, "no OwnForCausalLM; allowed: LlamaForCausalLM"),
        ("tokenizer_config", {"tokenizer_class": "OwnTokenizer"}, "no tokenizer_class 'OwnTokenizer'; allowed: "),
    ],
)
def test_what_transformers_lacks_is_refused_before_the_weights(
    refusal: Refusal, source: str, hub: Hub, file: str, changes: dict[str, Any], expected: str
) -> None:
    publish(source, hub, **{file: {**changes, "auto_map": {"config": MODEL, "tokenizer_config": TOKENIZER}[file]}})
    message = refusal("fetch_model")
    assert message.startswith(
        f"error: model.source: '{source}': it wants to run code of its own (auto_map in {file}.json)"
    )
    assert f"which is never done, and transformers has {expected}" in message
    assert "model.safetensors" not in hub.downloads()
    assert not RUN.exists()
