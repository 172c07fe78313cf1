"""Answers of the variants to the same questions, by batched generation conditioned on a shared prefix."""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, PreTrainedModel

from softprompt import distributed
from softprompt.config.evaluate import Generate
from softprompt.engine.model import SharedPrefixModel
from softprompt.runtime.progress import tqdm


@dataclass(frozen=True)
class Answer:
    """A generated answer.

    Attributes:
        ids: its tokens, without the end token.
        truncated: whether it came to `max_new_tokens` without an end token.
    """

    ids: list[int]
    truncated: bool


def generation_config(generate: Generate, model: PreTrainedModel, end_id: int) -> GenerationConfig:
    """transformers' configuration of `generate`; what the model's own one proposes for sampling does not count.

    Args:
        generate: the settings.
        model: the base model; its end tokens end an answer too.
        end_id: the token that ends an answer in the template.
    """
    own = model.generation_config.eos_token_id
    ends = sorted({end_id, *(own if isinstance(own, list) else [] if own is None else [own])})
    return GenerationConfig(**generate.model_dump(), eos_token_id=ends, pad_token_id=end_id)


def generate_answers(
    model: SharedPrefixModel,
    questions: Sequence[Sequence[int]],
    config: GenerationConfig,
    batch_size: int,
    *,
    seed: int,
    description: str = "generating",
) -> list[Answer]:
    """The answer to each of `questions` (token ids), in their order; questions of similar length share a batch.

    Several processes share the batches, and each has all answers then: the same as from one. `seed` is that of
    sampling, the same for each variant: global generators are left as they are.
    """
    order = sorted(range(len(questions)), key=lambda index: len(questions[index]))
    answers: dict[int, Answer] = {}
    with sampling(model.device):
        starts = distributed.own_part(range(0, len(order), batch_size))
        for start in tqdm(starts, desc=description, leave=False):
            torch.manual_seed(int(np.random.SeedSequence([seed, start]).generate_state(1)[0]))
            chosen = order[start : start + batch_size]
            ids = [torch.tensor(questions[index], device=model.device) for index in chosen]
            given = pad_sequence(ids, batch_first=True)
            mask = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
            output: Any = model.generate(given, attention_mask=mask, generation_config=config)
            for index, row in zip(chosen, output[:, given.shape[1] :].tolist(), strict=True):
                answers[index] = answer_of(row, config)
    answers = {index: answer for part in distributed.gathered(answers) for index, answer in part.items()}
    return [answers[index] for index in range(len(questions))]


@contextlib.contextmanager
def sampling(device: torch.device) -> Iterator[None]:
    """Within the block seeds may be set and samples drawn on `device`; global generators are left as they were."""
    strict = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng([device] if device.type == "cuda" else []), warnings.catch_warnings():
        # `top_p` adds up probabilities, for which torch has no deterministic kernel on a GPU: it would refuse to.
        warnings.filterwarnings("ignore", message="cumsum_cuda_kernel does not have a deterministic implementation")
        torch.use_deterministic_algorithms(strict, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(strict)


def answer_of(row: list[int], config: GenerationConfig) -> Answer:
    """New tokens up to the first end token of `generation_config`; what follows it is padding."""
    length = next((place for place, token in enumerate(row) if token in config.eos_token_id), len(row))
    return Answer(row[:length], truncated=length == len(row))
