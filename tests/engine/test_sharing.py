"""What can't share a prefix or be packed takes PEFT's forward, with one warning that says why; never a wrong answer."""

import copy
import re
import warnings
from typing import Any

import pytest
import torch
from peft import PeftModelForCausalLM
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)
from transformers.models.llama.modeling_llama import LlamaAttention

from softprompt.engine.model import SharedPrefixModel
from softprompt.engine.packable import packing_obstacle
from softprompt.engine.sharing import obstacle
from tests.engine.architectures import (
    ARCHITECTURES,
    METHODS,
    SPREAD,
    UNPACKED,
    USUAL,
    VIRTUAL_TOKENS,
    VOCABULARY,
    WINDOW,
    longrope,
    make_base,
    with_prompt,
)
from tests.engine.batches import BATCHES, alone, answer_alone, assert_equal_gradients, gradients, padded, rows_of


class ForgetfulLlamaModel(LlamaModel):
    """It takes a cache and doesn't read it."""

    def forward(self, *args: Any, past_key_values: Any = None, **kwargs: Any) -> Any:
        return super().forward(*args, **kwargs)


class RefusingLlamaModel(LlamaModel):
    def forward(self, *args: Any, past_key_values: Any = None, **kwargs: Any) -> Any:
        if past_key_values is not None:
            raise NotImplementedError("no cache here\nat all")
        return super().forward(*args, **kwargs)


def llama_around(decoder: type[LlamaModel]) -> LlamaForCausalLM:
    model = LlamaForCausalLM(LlamaConfig(**USUAL))
    model.model = decoder(model.config)
    return model


OBSTACLES = {
    "mamba": (
        lambda: MambaForCausalLM(
            # Mamba has no heads, but PEFT asks for their number.
            MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=8, num_attention_heads=1)
        ),
        r"MambaForCausalLM: .* it keeps a recurrent state, not keys and values$",
    ),
    "mistral": (
        lambda: MistralForCausalLM(MistralConfig(**USUAL, sliding_window=VIRTUAL_TOKENS)),
        r"MistralForCausalLM: .* its sliding window of 5 tokens is no longer than the prompt$",
    ),
    "gemma3": (
        lambda: make_base("gemma3", sliding_window=4),
        r"Gemma3ForCausalLM: .* its sliding window of 4 tokens is no longer than the prompt$",
    ),
    "forgetful": (
        lambda: llama_around(ForgetfulLlamaModel),
        r"LlamaForCausalLM: .* its cached forward differs from its plain one \(by \S+ of the largest logit\)$",
    ),
    "refusing": (
        lambda: llama_around(RefusingLlamaModel),
        r"LlamaForCausalLM: .* its cached forward fails \(NotImplementedError: no cache here\)$",
    ),
}
UNSHARED = [  # PEFT itself gives Mamba, and what takes no cache, no prefix of keys and values
    (name, method)
    for name in OBSTACLES
    for method in METHODS
    if not method.startswith("prefix") or name in ("mistral", "gemma3")
]


def make_unshared(name: str) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return OBSTACLES[name][0]().double().eval()


def shared_prefix_warnings(caught: list[warnings.WarningMessage]) -> list[str]:
    return [str(warning.message) for warning in caught if "shared prefix" in str(warning.message)]


@pytest.mark.parametrize(("name", "method"), UNSHARED)
def test_the_obstacle_is_named_once_and_the_loss_is_right(name: str, method: str) -> None:
    base = make_unshared(name)
    peft = with_prompt(PeftModelForCausalLM, copy.deepcopy(base), method).eval()
    batches = [BATCHES["common preamble"], BATCHES["labels at once"], BATCHES["very unequal lengths"]]
    losses = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ours = with_prompt(SharedPrefixModel, base, method)
        for rows in batches:
            for side in ("right", "left"):
                batch = padded(rows, side)
                losses.append(ours(**batch).loss)
    (message,) = shared_prefix_warnings(caught)
    assert re.match(OBSTACLES[name][1], message)
    assert not ours.shares_prefix
    assert ours.packs_rows == (name != "mamba"), "losses need no cache, and windows may be shorter than the prompt"
    for at, rows in enumerate(batches):
        right = torch.cat(alone(peft, rows)).mean()
        right_gradients = gradients(peft, right)
        for loss in losses[2 * at : 2 * at + 2]:
            assert loss.item() == pytest.approx(right.item(), rel=1e-6)
            assert_equal_gradients(gradients(ours, loss), right_gradients)


class MixingLlamaModel(LlamaModel):
    """It mixes neighbours outside of attention, as a convolution does."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = super().forward(*args, **kwargs)
        states = output.last_hidden_state
        output.last_hidden_state = states + torch.nn.functional.pad(states, (0, 0, 1, -1))
        return output


class SilentLlamaAttention(LlamaAttention):
    """It doesn't say which part of a row it sees."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.config.sliding_window = WINDOW


def llama_with_silent_windows() -> LlamaForCausalLM:
    model = LlamaForCausalLM(LlamaConfig(**USUAL))
    for at, layer in enumerate(model.model.layers):
        layer.self_attn = SilentLlamaAttention(model.config, at)
    return model


def dynamic() -> LlamaForCausalLM:
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
    return LlamaForCausalLM(LlamaConfig(**USUAL, rope_parameters=rope))


UNPACKABLE = {
    "gpt_neo": (lambda: make_base("gpt_neo"), UNPACKED["gpt_neo"]),
    "longrope": (longrope, r"its rotary embeddings \(longrope\) change with the longest row of a batch"),
    "dynamic": (dynamic, r"its rotary embeddings \(dynamic\) change with the longest row of a batch"),
    "mixing": (lambda: llama_around(MixingLlamaModel), r"its packed forward differs from its plain one"),
    "silent": (llama_with_silent_windows, "its attention layers don't say which part of a row they see"),
}


@pytest.mark.parametrize("name", UNPACKABLE)
def test_what_can_not_be_packed_is_named_once_and_its_loss_is_right(name: str) -> None:
    make, reason = UNPACKABLE[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        base = make().double().eval()
    peft = with_prompt(PeftModelForCausalLM, copy.deepcopy(base), "prompt_tuning").eval()
    implementation = base.config._attn_implementation
    with pytest.warns(UserWarning, match=f"no shared prefix, .* losses.*: .*{reason}") as caught:
        ours = with_prompt(SharedPrefixModel, base, "prompt_tuning")
    assert len(shared_prefix_warnings(list(caught))) == 1
    assert not ours.packs_rows
    assert base.config._attn_implementation == implementation
    rows = BATCHES["common preamble"]
    loss = ours(**padded(rows, "left")).loss
    assert loss.item() == pytest.approx(torch.cat(alone(peft, rows)).mean().item(), rel=1e-6)


@pytest.mark.parametrize("side", ["left", "right", "alone"])
@pytest.mark.parametrize("name", OBSTACLES)
def test_an_unshared_prefix_still_generates_what_rows_alone_do(name: str, side: str) -> None:
    base = make_unshared(name)
    for weight in base.parameters():
        weight.data.mul_(2 if weight.dim() > 1 else 1)  # so that the next token hangs on what stands before it
    peft = with_prompt(PeftModelForCausalLM, copy.deepcopy(base), "prompt_tuning").eval()
    with pytest.warns(UserWarning, match="no shared prefix"):
        ours = with_prompt(SharedPrefixModel, base, "prompt_tuning")
    rows = BATCHES["common preamble"] if side != "alone" else BATCHES["one row"]
    batch = padded(rows, side)
    del batch["labels"]
    answers = ours.generate(**batch, max_new_tokens=8, do_sample=False, pad_token_id=0)[:, -8:]
    assert answers.tolist() == [answer_alone(peft, ids, 8) for ids, _ in rows]


@pytest.mark.parametrize("name", ["mistral", "llama"])
def test_without_the_adapter_losses_are_the_base_models(name: str) -> None:
    base = make_unshared(name) if name in OBSTACLES else make_base(name)
    plain = copy.deepcopy(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours = with_prompt(SharedPrefixModel, base, "prompt_tuning")
    with ours.disable_adapter():
        losses, _ = ours.token_losses(rows_of("no preamble"))
    assert losses.mean().item() == pytest.approx(plain(**padded(BATCHES["no preamble"])).loss.item(), rel=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_shareable_model_is_told_nothing(architecture: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ours = with_prompt(SharedPrefixModel, make_base(architecture), "prompt_tuning")
        ours(**padded(BATCHES["common preamble"]))
    assert ours.shares_prefix
    if architecture not in UNPACKED:
        assert shared_prefix_warnings(caught) == []


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_precision_is_taken_for_an_obstacle(architecture: str, dtype: torch.dtype) -> None:
    base = make_base(architecture, dtype)
    assert obstacle(base, VIRTUAL_TOKENS) is None
    for trained in (False, True):
        assert packing_obstacle(base, trained=trained) == UNPACKED.get(architecture)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spread", [0.02, SPREAD])
def test_a_forgetful_model_is_found_out_in_any_precision(spread: float, dtype: torch.dtype) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = llama_around(ForgetfulLlamaModel)
        for weight in model.parameters():
            weight.data.mul_(spread / SPREAD if weight.dim() > 1 else 1)
    reason = obstacle(model.to(dtype), VIRTUAL_TOKENS)
    assert reason is not None
    assert "differs" in reason


def test_a_window_of_more_than_the_prompt_is_none_of_its_business() -> None:
    assert obstacle(make_base("gemma3", sliding_window=VIRTUAL_TOKENS + 1), VIRTUAL_TOKENS) is None


def test_the_trial_leaves_the_mode_as_it_was() -> None:
    model = make_base("llama")
    for mode in (True, False):
        model.train(mode)
        obstacle(model, VIRTUAL_TOKENS)
        packing_obstacle(model, trained=True)
        assert model.training == mode
