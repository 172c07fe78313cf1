"""Layers that look up token ids (Gemma 3n's, Gemma 4's): virtual tokens are refused, a prefix leaves rows their ids."""

import copy
from typing import Any

import pytest
import torch
from peft import PeftModelForCausalLM
from torch import Tensor
from torch.nn.functional import cross_entropy

from softprompt.engine.model import SharedPrefixModel
from softprompt.engine.sharing import looks_up_ids
from tests.engine.architectures import make_config, make_pair, with_prompt
from tests.engine.batches import BATCHES, alone, answer_alone, padded, rows_of
from tests.gemma import make_gemma

ROWS = BATCHES["common preamble"]
NEW = 6


def answers(model: Any) -> list[list[int]]:
    """Greedy answers to a batch."""
    given = {name: values for name, values in padded(ROWS).items() if name != "labels"}
    sequences = model.generate(**given, max_new_tokens=NEW, do_sample=False, pad_token_id=0)
    return sequences[:, given["input_ids"].shape[1] :].tolist()


@pytest.fixture(scope="module", params=["gemma3n", "gemma4"])
def pair(request: pytest.FixtureRequest) -> tuple[SharedPrefixModel, PeftModelForCausalLM]:
    base = make_gemma(request.param, eos_token_id=None).double()
    peft = with_prompt(PeftModelForCausalLM, copy.deepcopy(base), "prefix_tuning").eval()
    with pytest.warns(UserWarning, match="for losses and answers: its layers look up token ids, not embeddings alone"):
        return with_prompt(SharedPrefixModel, base, "prefix_tuning"), peft


@pytest.mark.parametrize("name", ["common preamble", "very unequal lengths"])
def test_behind_a_prefix_losses_are_pefts(pair: Any, name: str) -> None:
    ours, peft = pair
    losses, row = ours.token_losses(rows_of(name))
    for number, right in enumerate(alone(peft, BATCHES[name])):
        assert torch.allclose(losses[row == number].double(), right, rtol=1e-6)


def test_behind_a_prefix_answers_are_pefts(pair: Any) -> None:
    ours, peft = pair
    assert answers(ours) == [answer_alone(peft, ids, NEW) for ids, _ in ROWS]


def test_the_base_model_sees_ids_too(pair: Any) -> None:
    ours, _ = pair
    with ours.disable_adapter(), torch.no_grad():
        losses, row = ours.token_losses(rows_of("common preamble"))
        for number, (ids, labels) in enumerate(ROWS):
            logits = ours.frozen(torch.tensor([ids])).logits[0, :-1].double()
            right = cross_entropy(logits, torch.tensor(labels[1:]), reduction="none")
            assert torch.allclose(losses[row == number].double(), right[right != 0], rtol=1e-6)
        assert answers(ours) == [answer_alone(ours.frozen, ids, NEW) for ids, _ in ROWS]


@pytest.mark.parametrize("kind", ["gemma3n", "gemma4"])
@pytest.mark.parametrize("method", ["prompt_tuning", "p_tuning_mlp"])
def test_virtual_tokens_are_refused_by_name(kind: str, method: str) -> None:
    with pytest.raises(
        ValueError, match=r"ForCausalLM look up token ids, which .* don't have; allowed: PREFIX_TUNING, LORA$"
    ):
        SharedPrefixModel(make_gemma(kind), make_config(method))


def test_a_gemma_4_without_such_embeddings_takes_virtual_tokens() -> None:
    base = make_gemma("gemma4", hidden_size_per_layer_input=0, num_kv_shared_layers=0)
    assert not looks_up_ids(base)
    assert SharedPrefixModel(base, make_config("prompt_tuning")).packs_rows


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt_neo", "opt"])
@pytest.mark.filterwarnings("ignore:.*no shared prefix")
def test_where_nothing_is_shared_answers_behind_a_prefix_are_pefts(architecture: str) -> None:
    ours, peft = make_pair(architecture, "prefix_tuning")
    ours.shares_prefix = False
    assert answers(ours) == [answer_alone(peft, ids, NEW) for ids, _ in ROWS]


def test_all_that_reach_the_layers_are_ids() -> None:
    """Else these tests would pass whatever the layers were given."""
    base = make_gemma("gemma3n").double()
    ids: Tensor = torch.tensor([[3, 4, 5]])
    with torch.no_grad():
        by_ids, by_embeddings = base(ids).logits, base(inputs_embeds=base.get_input_embeddings()(ids)).logits
    assert not torch.allclose(by_ids, by_embeddings, rtol=1e-2)
