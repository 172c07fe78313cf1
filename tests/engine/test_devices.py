"""A model that is split over devices by accelerate's hooks, as `device_map` does: here over memory and disk."""

from pathlib import Path

import pytest
import torch
from peft import PromptTuningConfig
from transformers import AutoModelForCausalLM

from softprompt.engine.model import SharedPrefixModel
from tests.training.prompts import trained

SPLIT = {"model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk", "model.norm": "cpu"}
SPLIT |= {"model.rotary_emb": "cpu", "lm_head": "cpu"}


def results(folder: Path, adapter: Path, **placed: object) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Loss, the prompt's gradient, and answers."""
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **placed)
    if placed:
        assert any(parameter.is_meta for parameter in base.parameters()), "a part of it is elsewhere"
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 300, (3, 12), generator=generator)
    ids[:, :4] = 7  # a preamble
    labels = ids.masked_fill(torch.arange(12) < 6, -100)
    mask = torch.ones_like(ids)
    if not adapter.exists():
        torch.manual_seed(1)
        model = SharedPrefixModel(base, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
        model.save_pretrained(str(adapter))
    else:
        model = SharedPrefixModel.from_pretrained(base, str(adapter))
        model.prompt_encoder.requires_grad_(True)
    loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    loss.backward()
    (prompt,) = model.prompt_encoder.parameters()
    return loss.detach(), prompt.grad, model.generate(ids, attention_mask=mask, max_new_tokens=5, do_sample=False)


def test_a_split_model_learns_and_answers_as_a_whole_one(toy_model: Path, tmp_path: Path) -> None:
    whole = results(toy_model, tmp_path / "adapter")
    split = results(toy_model, tmp_path / "adapter", device_map=SPLIT, offload_folder=str(tmp_path / "offloaded"))
    torch.testing.assert_close(split[0], whole[0])
    torch.testing.assert_close(split[1], whole[1])
    assert torch.equal(split[2], whole[2])


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")
def test_a_process_takes_one_gpu_of_several(finished: Path, tmp_path: Path) -> None:
    run = trained(finished, tmp_path, device="cuda")
    assert {weight.device for weight in run.model.parameters()} == {torch.device("cuda", torch.cuda.current_device())}
    others = set(range(torch.cuda.device_count())) - {torch.cuda.current_device()}
    assert {torch.cuda.max_memory_allocated(other) for other in others} == {0}
