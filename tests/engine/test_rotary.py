"""Rotary embeddings that change with the length: each row has its own, whatever stands beside it."""

import copy

import pytest
import torch
from peft import PeftModelForCausalLM

from softprompt.engine.model import SharedPrefixModel
from softprompt.runtime.errors import InputError
from tests.engine.architectures import METHODS, longrope, with_prompt
from tests.engine.batches import BATCHES, alone, answer_alone, padded, rows_of


@pytest.mark.filterwarnings("ignore:.*no shared prefix")
class TestRotaryEmbeddingsThatChange:
    """Beyond sixteen tokens they are others; of these batches' rows some are shorter, and some answers cross."""

    def pair(self, method: str) -> tuple[SharedPrefixModel, PeftModelForCausalLM]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            base = longrope(limit=16).double().eval()
        peft = with_prompt(PeftModelForCausalLM, copy.deepcopy(base), method).eval()
        return with_prompt(SharedPrefixModel, base, method), peft

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("name", BATCHES)
    def test_losses_are_those_of_rows_alone(self, name: str, method: str) -> None:
        ours, peft = self.pair(method)
        losses, row = ours.token_losses(rows_of(name))
        assert row.tolist() == sorted(row.tolist())
        for at, right in enumerate(alone(peft, BATCHES[name])):
            assert torch.allclose(losses[row == at], right, rtol=1e-6)

    @pytest.mark.parametrize("method", [method for method in METHODS if not method.startswith("prefix")])
    @pytest.mark.parametrize("name", ["common preamble", "no preamble", "very unequal lengths"])
    def test_answers_are_those_of_rows_alone(self, name: str, method: str) -> None:
        ours, peft = self.pair(method)
        given = {key: values for key, values in padded(BATCHES[name]).items() if key != "labels"}
        for new in (2, 12):
            answers = ours.generate(**given, max_new_tokens=new, do_sample=False, pad_token_id=0)[:, -new:]
            assert answers.tolist() == [answer_alone(peft, ids, new) for ids, _ in BATCHES[name]]

    def test_no_answer_crosses_behind_a_prefix(self) -> None:
        ours, peft = self.pair("prefix_tuning")
        ids = torch.tensor([[5, 6, 7]])
        assert ours.generate(ids, max_new_tokens=8, do_sample=False)[0, 3:].tolist() == answer_alone(peft, [5, 6, 7], 8)
        with pytest.raises(
            InputError, match="make 17 tokens, but this phi3 model's rotary embeddings change beyond 16;"
        ):
            ours.generate(ids, max_new_tokens=9)
