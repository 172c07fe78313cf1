"""A new prompt on models whose embedding layer scales, and on those whose layers look up token ids."""

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from softprompt.runtime.errors import InputError
from softprompt.training.base import check_context, load_base_model
from tests.gemma import KINDS, save_gemma
from tests.training.prompts import fresh, params_of, prompt, trained


@pytest.fixture(scope="module")
def folders(toy_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A Gemma of each kind, with the toy's tokenizer."""
    return {kind: save_gemma(tmp_path_factory.mktemp(kind), toy_model, kind) for kind in KINDS}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("init", ["vocabulary", "text"])
def test_virtual_tokens_begin_as_the_layer_puts_tokens_out(
    folders: dict[str, Path], tmp_path: Path, init: str, dtype: str
) -> None:
    model = fresh(folders["gemma3"], params_of(tmp_path, **{"train.init": init, "model.dtype": dtype}))
    layer, weight = model.frozen.get_input_embeddings(), prompt(model)
    table = layer(torch.arange(layer.weight.shape[0])).float()
    assert weight.dtype == torch.float32
    assert all((table == row).all(1).any() for row in weight)
    assert not any((layer.weight.float() == row).all(1).any() for row in weight), "the table isn't scaled"


@pytest.mark.parametrize("kind", ["gemma3n", "gemma4"])
@pytest.mark.parametrize("method", ["prompt_tuning", "p_tuning"])
def test_virtual_tokens_are_refused_where_layers_look_up_ids(
    folders: dict[str, Path], tmp_path: Path, kind: str, method: str
) -> None:
    message = (
        rf"^train.method: {method}: the layers of this {kind}_text model look up token ids, which virtual tokens don't "
        r"have; allowed: prefix_tuning \(train.init: random or zero\) or lora$"
    )
    with pytest.raises(InputError, match=message):
        fresh(folders[kind], params_of(tmp_path, **{"train.method": method}))


@pytest.mark.parametrize("kind", ["gemma3n", "gemma4"])
def test_a_prefix_of_a_text_is_refused_where_layers_keys_have_unlike_shapes(
    folders: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    with pytest.raises(InputError, match=r"^train.init: text: PEFT takes .*; allowed: random or zero$"):
        fresh(folders[kind], params_of(tmp_path, **{"train.method": "prefix_tuning", "train.init": "text"}))


def test_a_prefix_of_more_tokens_than_a_window_holds_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    changes = {"train.method": "prefix_tuning", "train.init": "text"}
    assert fresh(folders["gemma3"], params_of(tmp_path, **changes, **{"train.num_virtual_tokens": 255}))
    with pytest.raises(InputError, match=r"^train.num_virtual_tokens: of 256 tokens .*; allowed: up to 255, or"):
        fresh(folders["gemma3"], params_of(tmp_path, **changes, **{"train.num_virtual_tokens": 256}))


@pytest.mark.parametrize("init", ["random", "zero"])
@pytest.mark.parametrize("kind", ["gemma3n", "gemma4"])
def test_other_prefixes_are_tuned_there(
    folders: dict[str, Path], finished: Path, tmp_path: Path, kind: str, init: str
) -> None:
    changes = {"train.method": "prefix_tuning", "train.init": init, "train.learning_rate": 0.03}
    run = trained(finished, tmp_path, base=folders[kind], **changes)
    losses = run.curve("validation/loss")
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("kind", ["gemma3", "gemma3_with_pictures"])
def test_the_context_is_that_of_the_text(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    model = load_base_model(folders[kind], params_of(tmp_path))
    check_context(model, 12, 500, "a prompt")
    with pytest.raises(InputError, match="the model's context is 512 tokens"):
        check_context(model, 13, 500, "a prompt")


def test_a_model_with_pictures_is_tuned(folders: dict[str, Path], finished: Path, tmp_path: Path) -> None:
    run = trained(finished, tmp_path, base=folders["gemma3_with_pictures"])
    losses = run.curve("validation/loss")
    assert losses[-1] < losses[0]


class TestTokensWithoutEmbedding:
    """A model of two hundred embeddings; the toy's tokenizer has more tokens."""

    @pytest.fixture(scope="class")
    def small(self, toy_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return save_gemma(tmp_path_factory.mktemp("small"), toy_model, "gemma3", vocab_size=200)

    def test_vocabulary_draws_none(self, small: Path, tmp_path: Path) -> None:
        params = params_of(tmp_path, **{"train.init": "vocabulary", "train.num_virtual_tokens": 300})
        model = fresh(small, params)
        table = model.frozen.get_input_embeddings()(torch.arange(200))
        drawn = {int((table == row).all(1).nonzero()) for row in prompt(model)}
        assert len(drawn) > 100
        assert not drawn & {0, 1, 2}, "no special token"

    def test_an_initial_text_that_has_one_is_refused(self, small: Path, tmp_path: Path) -> None:
        text = "Where does fog come from?"
        params = params_of(tmp_path, **{"train.init": "text", "train.init_text": text})
        tokenizer = AutoTokenizer.from_pretrained(small)
        last = max(tokenizer(text)["input_ids"])
        with pytest.raises(InputError) as refused:
            fresh(small, params)
        assert str(refused.value) == (
            f"train.init_text: the token {tokenizer.convert_ids_to_tokens(last)!r} has id {last}, but the model's 200 "
            "embeddings end with id 199; allowed: text without this token"
        )
