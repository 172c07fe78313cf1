"""The latest families of models from fetch to an answer, by their published configurations with small sizes."""

import re
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from softprompt.cli.streaming import Answerer
from softprompt.config import load_params
from softprompt.data.tokens import IGNORED
from softprompt.evaluation.names import NAMES
from softprompt.evaluation.variants import Variants
from softprompt.runtime.errors import InputError
from softprompt.runtime.paths import ADAPTER, BASE_MODEL
from tests.conftest import run_stages, set_up
from tests.toy import ROOT, write_params
from tests.training.families import FAMILIES, save_family
from tests.training.prompts import fresh, params_of

SMALL = {"train.max_steps": 1, "train.eval_steps": 1, "evaluate.rows": 2, "evaluate.generate.max_new_tokens": 3}
PREFIX = {"train.method": "prefix_tuning", "train.init": "random"}
PER_LAYER = ("gemma-4-E2B",)  # prompt_tuning is refused, see below
WITH_PICTURES = "Mistral-Small-3.2-24B"
NONE = ("DeepSeek-V4-Flash", WITH_PICTURES)
# How losses and answers are made where it isn't by the shared prefix.
SLOWER = {
    "gemma-4-E2B": "losses and answers: its layers look up token ids",
    "Phi-4-mini": r"losses: its rotary embeddings \(longrope\) change",
    "DeepSeek-V3.2": "losses and answers: some of its layers keep something other than keys and values",
}


@pytest.fixture(scope="module")
def prepared(toy_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy project with its rows prepared, to be read only."""
    folder = tmp_path_factory.mktemp("prepared")
    set_up(folder, toy_model)
    write_params(folder, **SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_stages("fetch_data", "fetch_general", "prepare")
    return folder


@pytest.fixture
def project(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = shutil.copytree(prepared, tmp_path / "project")
    monkeypatch.chdir(folder)
    return folder


def refusal(stage: str) -> str:
    with pytest.raises(SystemExit) as exit:
        run_stages(stage)
    assert isinstance(exit.value.code, str)
    return exit.value.code


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in NONE])
def test_from_fetch_to_an_answer(project: Path, toy_model: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    save_family(Path("toy/model"), toy_model, name)
    if name in PER_LAYER:
        write_params(project, **PREFIX)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run_stages("fetch_model", "tokenize", "train", "evaluate")
    slower = {str(warning.message) for warning in caught if "shared prefix" in str(warning.message)}
    assert len(slower) == (name in SLOWER)
    assert all(re.search(f"serves for {SLOWER[name]}", message) for message in slower)
    params = load_params()
    variants = Variants.load(BASE_MODEL, ADAPTER, params)
    capsys.readouterr()
    shown = ["tuned", "hard", "base"]
    answerer = Answerer(variants, params.evaluate.generate, 1, shown)
    answerer.answer([{"role": "user", "content": "What is fog?"}], lambda note: None)
    printed = capsys.readouterr().out
    assert all(f"{NAMES[variant]}:\n" in printed for variant in shown)


V4 = "the layers of this deepseek_v4 model look up token ids, which virtual tokens don't have"
UNFIT = "train.method: prefix_tuning: the keys and values that PEFT makes don't fit into the layers of this "
OTHERS = "prompt_tuning, p_tuning or lora"


@pytest.mark.parametrize(
    ("name", "method", "message"),
    [
        ("DeepSeek-V4-Flash", "prompt_tuning", f"train.method: prompt_tuning: {V4}; allowed: another model"),
        ("DeepSeek-V4-Flash", "prefix_tuning", rf"{UNFIT}deepseek_v4 model \(.*\); allowed: another model"),
        ("DeepSeek-V3", "prefix_tuning", rf"{UNFIT}deepseek_v3 model \(.*\); allowed: prompt_tuning, p_tuning or lora"),
        (
            "DeepSeek-V3.2",
            "prefix_tuning",
            rf"{UNFIT}deepseek_v32 model \(.*\); allowed: prompt_tuning, p_tuning or lora",
        ),
        (
            "DeepSeek-V4-Flash",
            "lora",
            rf"{UNFIT.replace('prefix_tuning', 'lora').replace('keys and values', 'layers')}.*",
        ),
    ],
)
def test_what_a_family_can_not_do_is_refused_by_name(
    toy_model: Path, tmp_path: Path, name: str, method: str, message: str
) -> None:
    base = save_family(tmp_path / "model", toy_model, name)
    with pytest.raises(InputError, match=f"^{message}$"):
        fresh(base, params_of(tmp_path, **{"train.method": method, "train.init": None}))


@pytest.mark.parametrize("name", ["DeepSeek-V3.2", "gemma-4-E2B", "Phi-4-mini", "gpt-oss-20b"])
def test_lora_is_tuned_where_a_prompt_can_not_be_shared_or_put(toy_model: Path, tmp_path: Path, name: str) -> None:
    base = save_family(tmp_path / "model", toy_model, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the slower forward
        model = fresh(base, params_of(tmp_path, **{"train.method": "lora"}))
    row = {"input_ids": [10, 20, 30, 40], "labels": [IGNORED, 20, 30, 40]}
    losses, _ = model.token_losses([row, {"input_ids": [10, 50, 60], "labels": [IGNORED, IGNORED, 60]}])
    assert torch.allclose(losses[:3], model.token_losses([row])[0], rtol=1e-4)
    losses.sum().backward()
    assert any(bool(weight.grad.any()) for weight in model.parameters() if weight.grad is not None)
    assert model.generate(torch.tensor([[10, 20, 30]]), max_new_tokens=2, do_sample=False).shape == (1, 5)


@pytest.mark.parametrize("init", ["random", "zero"])
def test_a_prefix_is_tuned_where_peft_leaves_out_layers(
    prepared: Path, toy_model: Path, tmp_path: Path, init: str
) -> None:
    """Gemma 4's layers have keys of two shapes; one kind gets none of the prefix."""
    base = save_family(tmp_path / "model", toy_model, "gemma-4-31B")
    params = params_of(tmp_path, **{"train.method": "prefix_tuning", "train.init": init})
    with pytest.warns(UserWarning, match="losses and answers: PEFT gives some of its layers no keys and values"):
        model = fresh(base, params)
    rows = [{"input_ids": [10, 20, 30, 40], "labels": [IGNORED, 20, 30, 40]}]
    losses, _ = model.token_losses([*rows, {"input_ids": [10, 50, 60], "labels": [IGNORED, IGNORED, 60]}])
    alone, _ = model.token_losses(rows)
    assert torch.allclose(losses[:3], alone, rtol=1e-5)
    losses.sum().backward()
    assert all(bool(weight.grad.any()) for weight in model.parameters() if weight.requires_grad)


class TestTextOfMistral3:
    """Mistral Small from 3.1 on sees pictures; transformers has no causal language model of it."""

    def test_the_whole_is_refused_with_what_works(self, project: Path, toy_model: Path) -> None:
        save_family(Path("toy/model"), toy_model, WITH_PICTURES)
        assert refusal("fetch_model") == (
            "error: model.source: 'toy/model': a mistral3 model, not a causal language model; allowed: its text part, "
            "a mistral model, saved by itself: docs/models.md shows how"
        )

    def test_its_text_part_works(self, project: Path, toy_model: Path) -> None:
        save_family(Path("models/local/whole"), toy_model, WITH_PICTURES)
        (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/models.md").read_text(encoding="utf-8"), re.S)
        exec(code)
        write_params(project, **{"model.source": "models/local/text"})
        run_stages("fetch_model")
        ids = torch.tensor([[5, 6, 7]])
        whole = AutoModelForImageTextToText.from_pretrained("models/local/whole")
        text = AutoModelForCausalLM.from_pretrained(BASE_MODEL)
        assert type(text).__name__ == "MistralForCausalLM"
        assert torch.equal(text(ids).logits, whole(input_ids=ids).logits)
