"""What a checkpoint proposes for generation in its generation_config.json changes no answer of the evaluation."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, GenerationConfig

from softprompt.config import load_params
from softprompt.evaluation.answers import Answer
from softprompt.evaluation.variants import Variants
from tests.conftest import run_stages, set_up
from tests.toy import STAGES, make_model, write_params

FILE = Path("models/base/generation_config.json")
SETTINGS: dict[str, dict[str, Any]] = {
    "beams": {"num_beams": 3},
    "prompt_lookup": {"prompt_lookup_num_tokens": 3},
    "no_cache": {"use_cache": False},
    "ngrams": {"no_repeat_ngram_size": 1},
    "suppressed": {"suppress_tokens": list(range(3, 300))},
    "penalty": {"repetition_penalty": 5.0},
    "sampling": {"do_sample": True, "temperature": 5.0},
    "dola": {"dola_layers": "low"},
}


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy project up to training, with a model whose answers are no mere repetitions."""
    folder = tmp_path_factory.mktemp("lively")
    set_up(folder, make_model(tmp_path_factory.mktemp("model"), initializer_range=0.5))
    write_params(folder, **{"train.max_steps": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_stages(*STAGES[: STAGES.index("train") + 1])
    return folder


def answers(proposed: dict[str, Any]) -> dict[str, list[Answer]]:
    """Each variant's answers, from a checkpoint that proposes `proposed` beside its special tokens."""
    special = {"eos_token_id": AutoTokenizer.from_pretrained("models/base").eos_token_id}
    FILE.write_text(json.dumps({**special, **proposed}), encoding="utf-8")
    params = load_params()
    variants = Variants.load(Path("models/base"), Path("models/adapter"), params)
    texts = ("What is fog?", "Where does jam come from?", "Name a colour of coal.")
    questions = {
        variant: [variants.question_ids([{"role": "user", "content": text}], variant) for text in texts]
        for variant in variants.names
    }
    return variants.answers(questions, params.evaluate.generate, batch_size=2, seed=0)


@pytest.fixture
def project_folder(lively: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(lively, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("project_folder")
@pytest.mark.parametrize("name", SETTINGS)
def test_answers_are_those_without(name: str) -> None:
    right = answers({})
    assert len({tuple(answer.ids) for of_variant in right.values() for answer in of_variant}) > 3
    assert answers(SETTINGS[name]) == right


@pytest.mark.usefixtures("project_folder")
def test_its_end_tokens_count() -> None:
    right = answers({})["tuned"][0].ids
    assert len(right) > 2
    again = answers({"eos_token_id": [right[2]]})["tuned"][0]
    assert again == Answer(right[: right.index(right[2])], truncated=False)


def test_the_settings_are_such_as_transformers_reads() -> None:
    for settings in SETTINGS.values():
        read = GenerationConfig(**settings)
        assert {name: getattr(read, name) for name in settings} == settings
