"""Answers in batches: what ends them, what cuts them, and sampling by a seed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PromptTuningConfig
from transformers import AutoModelForCausalLM, GenerationConfig

from softprompt.config.evaluate import Generate
from softprompt.engine.model import SharedPrefixModel
from softprompt.evaluation.answers import answer_of, generate_answers, generation_config, sampling

QUESTIONS = [[5, 6, 7], [9] * 20, [30, 31], [5, 6, 7], [100, 3, 8, 200, 4]]


@pytest.fixture(scope="module")
def model(toy_model: Path) -> SharedPrefixModel:
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return SharedPrefixModel(AutoModelForCausalLM.from_pretrained(toy_model), config)


def settings(model: SharedPrefixModel, **changes: Any) -> GenerationConfig:
    usual = {"max_new_tokens": 6, "do_sample": False, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    generate = Generate.model_validate({**usual, "repetition_penalty": 1.0, **changes})
    return generation_config(generate, model.frozen, end_id=2)


def test_what_the_model_proposes_for_sampling_does_not_count(model: SharedPrefixModel) -> None:
    own = model.frozen.generation_config
    before = own.do_sample, own.temperature, own.repetition_penalty
    own.do_sample, own.temperature, own.repetition_penalty = True, 5.0, 9.0
    try:
        proposed = generate_answers(model, QUESTIONS, settings(model), 2, seed=0)
    finally:
        own.do_sample, own.temperature, own.repetition_penalty = before
    assert proposed == generate_answers(model, QUESTIONS, settings(model), 5, seed=1)
    assert proposed[0] == proposed[3]


def test_sampling_is_by_the_seed_and_leaves_the_global_generator(model: SharedPrefixModel) -> None:
    config = settings(model, do_sample=True, temperature=3.0)
    before = torch.get_rng_state()
    first, again, other = (generate_answers(model, QUESTIONS, config, 2, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), before)
    assert first[0] != first[3], "one question twice is sampled twice"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_samples_by_top_p_where_only_deterministic_kernels_are_allowed(toy_model: Path) -> None:
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    on_gpu = SharedPrefixModel(AutoModelForCausalLM.from_pretrained(toy_model), config).cuda()
    torch.use_deterministic_algorithms(True)
    try:
        answers = generate_answers(on_gpu, QUESTIONS, settings(on_gpu, do_sample=True, top_p=0.9), 2, seed=1)
    finally:
        torch.use_deterministic_algorithms(False)
    assert len(answers) == len(QUESTIONS)


def test_only_within_sampling_may_a_kernel_be_nondeterministic() -> None:
    torch.use_deterministic_algorithms(True)
    try:
        with sampling(torch.device("cpu")):
            assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_an_answer_ends_at_any_end_token_of_template_and_model(model: SharedPrefixModel) -> None:
    own = model.frozen.generation_config.eos_token_id
    config = settings(model)
    assert set(config.eos_token_id) == {2, *(own if isinstance(own, list) else [own])}
    assert answer_of([5, 6, 2, 0, 0], config).ids == [5, 6]
    assert not answer_of([5, 6, 2], config).truncated
    assert answer_of([5, 6, 7], config).truncated
    assert answer_of([2, 9], config) == answer_of([2], config)
