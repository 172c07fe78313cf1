"""Generation conditioned on a shared prefix, by transformers' own `generate`.

`generate` goes on from the prefix's cache, and is given the ids of what comes after it. So whatever looks at ids
(penalties on repeated tokens, stopping criteria, a streamer) would miss the preamble, and would see the padding between
prefix and row. Where a setting looks at ids, the prefix is the prompt alone, which has no ids, and rows of equal length
go together: ids are the row's own, as they are for the row alone.

Rows of unequal length are padded between the prefix and the rest of each row; the mask hides the padding, and positions
follow from the mask. A window of attention counts padding all the same, so where one could be left, rows of equal
length go together and nothing is padded.
"""

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers import Cache, GenerationConfig, PreTrainedModel, StoppingCriteriaList
from transformers.generation import GenerationMode

from softprompt.engine.compiled import can_be_captured
from softprompt.engine.decoding import steps_by_graph
from softprompt.engine.prefix import Prompt, Rows, expanded, prompt_lengths, run_prefix
from softprompt.engine.sharing import windows_of
from softprompt.engine.watching import Watched

MODES = (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE, GenerationMode.BEAM_SEARCH, GenerationMode.BEAM_SAMPLE)
# What changes how fast answers come, and no answer. Each takes every position to have an id, or brings its own cache.
SPEED_ONLY = (
    "assistant_early_exit",
    "assistant_model",
    "assistant_tokenizer",
    "cache_config",
    "cache_implementation",
    "prompt_lookup_num_tokens",
    "use_cache",
    "use_mtp",
)
ARGUMENTS = (
    "logits_processor",
    "prefix_allowed_tokens_fn",
    "stopping_criteria",
    "streamer",
    "synced_gpus",
    "tokenizer",
    "watch",
)
# Settings that look at scores and lengths alone; any other is taken to look at ids.
BLIND_TO_IDS = {
    "bos_token_id", "disable_compile", "do_sample", "early_stopping", "eos_token_id", "epsilon_cutoff", "eta_cutoff",
    "length_penalty", "max_length", "max_new_tokens", "max_time", "min_length", "min_new_tokens", "min_p", "num_beams",
    "num_return_sequences", "output_attentions", "output_hidden_states", "output_logits", "output_scores",
    "pad_token_id", "remove_invalid_values", "renormalize_logits", "return_dict_in_generate", "suppress_tokens",
    "synced_gpus", "temperature", "tokenizer", "top_h", "top_k", "top_p", "transformers_version", "typical_p", "watch",
}  # fmt: skip
NO_WINDOW = 2**62
STEPS = range(8, 1025)  # tokens of an answer for which a graph is worth a cache that has room for all of them at once
OFF = {
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "guidance_scale": 1.0,
    "no_repeat_ngram_size": 0,
    "repetition_penalty": 1.0,
    "token_healing": False,
}


@dataclass(frozen=True)
class Request:
    """A call of `generate`.

    Attributes:
        given: the rows as given, (rows, length).
        rows: what is real in them.
        config: all settings, those of the model's own `generation_config` included.
        arguments: what else transformers' `generate` is given.
    """

    given: Tensor
    rows: Rows
    config: GenerationConfig
    arguments: dict[str, Any]

    @classmethod
    def of(cls, model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor | None, **settings: Any) -> "Request":
        """From the arguments of `generate`, among which None is the same as none.

        Raises:
            ValueError: naming what can't be done after a prompt.
        """
        config = copy.deepcopy(settings.pop("generation_config", None) or GenerationConfig())
        arguments = config.update(**{name: value for name, value in settings.items() if value is not None})
        config.update(**model.generation_config.to_dict(), defaults_only=True, allow_custom_entries=True)
        unused = [name for name in SPEED_ONLY if arguments.pop(name, None) is not None]
        unused += [name for name in SPEED_ONLY if getattr(config, name, None) not in (None, True, False)]
        if unused:
            warnings.warn(
                f"generate: not used after a prompt, the answers are the same: {', '.join(unused)}", stacklevel=3
            )
        config.update(**dict.fromkeys(SPEED_ONLY))
        refused = [name for name in arguments if name not in ARGUMENTS]
        if config.assistant_ensemble_weight is not None:  # with it, an assistant does change answers
            refused.append("assistant_ensemble_weight")
        if refused:
            raise ValueError(
                f"generate: {', '.join(refused)}: not after a prompt; allowed: generation settings, {ARGUMENTS}"
            )
        if (mode := config.get_generation_mode()) not in MODES:
            raise ValueError(
                f"generate: {mode.value}: not after a prompt; allowed: {', '.join(mode.value for mode in MODES)}"
            )
        if "watch" in arguments and (config.num_beams or 1) > 1:
            raise ValueError("generate: watch: beams have no token that is final; allowed: num_beams=1")
        if attention_mask is None:
            attention_mask = _mask_of(input_ids, config)
        return cls(input_ids, Rows.of(input_ids, attention_mask), config, arguments)

    @property
    def looks_at_ids(self) -> bool:
        """Whether anything but scores and lengths may decide on a token."""
        settings = self.config.to_diff_dict().items()
        wanted = {name for name, value in settings if value not in (None, OFF.get(name)) and name[0] != "_"}
        return bool((wanted | set(self.arguments)) - BLIND_TO_IDS)

    @property
    def sequences(self) -> int:
        """Answers to each row."""
        return self.config.num_return_sequences or 1

    @property
    def longest(self) -> int:
        """Tokens that the longest row and its answer may have, without the prompt."""
        return self.rows.width + (self.config.max_new_tokens or 2**31)

    @property
    def padding(self) -> int:
        """What transformers' `generate` fills with: the padding token, else the first end token."""
        ends = self.config.eos_token_id
        end = ends[0] if isinstance(ends, list) and ends else ends
        return next((token for token in (self.config.pad_token_id, end) if isinstance(token, int)), 0)

    def config_for(self, length: int) -> GenerationConfig:
        """The settings for rows that come as `length` tokens: total lengths count from the rows as given."""
        config = copy.deepcopy(self.config)
        for name, new in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
            total = getattr(config, name)
            counts = total is not None and getattr(config, new) is None
            setattr(config, name, max(0, total + length - self.given.shape[1]) if counts else None)
        return config

    def arguments_for(self, chosen: Tensor) -> dict[str, Any]:
        """The arguments for the rows of the indices `chosen`, (n,)."""
        arguments = dict(self.arguments)
        answers = chosen.unsqueeze(1) * self.sequences + torch.arange(self.sequences, device=chosen.device)
        if allowed := arguments.pop("prefix_allowed_tokens_fn", None):
            # It is given the number of the answer, with beams that of the row.
            numbers = answers.flatten() if (self.config.num_beams or 1) == 1 else chosen
            arguments["prefix_allowed_tokens_fn"] = lambda row, ids: allowed(int(numbers[row]), ids)
        if watch := arguments.pop("watch", None):
            criteria = [*arguments.get("stopping_criteria", ()), Watched(watch, answers.flatten().tolist())]
            arguments["stopping_criteria"] = StoppingCriteriaList(criteria)
        return arguments


def _mask_of(input_ids: Tensor, config: GenerationConfig) -> Tensor | None:
    """The mask that transformers infers where none is given: padding tokens are padding, unless they end answers."""
    padding, ends = config.pad_token_id, config.eos_token_id
    if padding is None or padding in (ends if isinstance(ends, list) else [ends]):
        return None
    return (input_ids != padding).long()


def _steps_alike(model: PreTrainedModel, config: GenerationConfig, given: int) -> int:
    """How many tokens come after `given` at most, where steps are one program whatever came before; else 0."""
    plain = (config.num_beams or 1) == 1 and not config.return_dict_in_generate
    if not plain or not can_be_captured(model) or _window(model) < NO_WINDOW:
        return 0
    new = config.max_new_tokens or max(0, (config.max_length or 0) - given)
    return new if new in STEPS else 0


def generate_after_prompt(model: PreTrainedModel, prompt: Prompt, request: Request) -> Any:
    """Answers conditioned on `prompt`, which runs once, with what all rows begin with where nothing looks at ids."""
    if sum(prompt_lengths(prompt)) + request.longest > _window(model) or request.looks_at_ids:
        return in_equal_lengths(request, lambda chosen: _after(model, prompt, request, chosen))
    everything = torch.arange(len(request.given), device=request.given.device)
    return _as_given(request, _after(model, prompt, request, everything))


def in_equal_lengths(request: Request, generate: Callable[[Tensor], Any]) -> Any:
    """`generate` for the rows of each length by themselves, given their indices, (n,); then all in order.

    `generate` returns sequences without the rows. Where there are several lengths, an output object keeps its sequences
    and nothing else: scores share no shape.
    """
    lengths = request.rows.lengths
    groups = [(lengths == length).nonzero().squeeze(1) for length in lengths.unique()]
    outputs = [generate(group) for group in groups]
    if len(groups) == 1:
        return _as_given(request, outputs[0])
    width = max(_sequences(output).shape[1] for output in outputs)
    together = request.given.new_full((len(request.given) * request.sequences, width), request.padding)
    for group, output in zip(groups, outputs, strict=True):
        places = (
            group.unsqueeze(1) * request.sequences + torch.arange(request.sequences, device=group.device)
        ).flatten()
        together[places, : _sequences(output).shape[1]] = _sequences(output)
    return _as_given(request, together if isinstance(outputs[0], Tensor) else type(outputs[0])(sequences=together))


def _after(model: PreTrainedModel, prompt: Prompt, request: Request, chosen: Tensor) -> Any:
    """`generate` for the rows of the indices `chosen` from the cache of the prefix on; sequences are the answers."""
    rows = request.rows.select(chosen)
    count, common = len(chosen), 0 if request.looks_at_ids else rows.preamble_length()
    prefix = run_prefix(model, prompt, rows.input_ids[0, :common])
    ahead = prefix.get_seq_length() if prefix is not None else 0
    rest = rows.input_ids[:, common:]
    real = torch.arange(rest.shape[1], device=rest.device) < (rows.lengths - common).unsqueeze(1)
    order = real.to(torch.int8).argsort(dim=1, stable=True)  # padding to the left
    rest, real = rest.gather(1, order), real.gather(1, order)
    # A mask longer than the ids: transformers takes the ids for what comes after the cache.
    mask = torch.cat([real.new_ones(count, ahead), real], dim=1).long()
    config = request.config_for(rest.shape[1])
    caching: AbstractContextManager[Cache | None]
    if new := _steps_alike(model, config, rest.shape[1]):
        config.disable_compile = True
        caching = steps_by_graph(model, prefix, count * request.sequences, mask.shape[1] + new)
    else:
        caching = nullcontext(expanded(prefix, count * max(config.num_beams or 1, request.sequences)))
    with without_own_settings(model), caching as cache:
        output = cast(Any, model).generate(
            input_ids=rest,
            attention_mask=mask,
            past_key_values=cache,
            generation_config=config,
            **request.arguments_for(chosen),
        )
    return answers_of(output, rest.shape[1])


@contextmanager
def without_own_settings(model: PreTrainedModel) -> Iterator[None]:
    """Within the block the model's own `generation_config`, which fills what is None, says nothing."""
    own, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


def answers_of(output: Any, given: int) -> Any:
    """The output without the first `given` tokens of its sequences."""
    if isinstance(output, Tensor):
        return output[:, given:]
    output.sequences = output.sequences[:, given:]
    return output


def _window(model: PreTrainedModel) -> int:
    """Positions that the narrowest window of attention spans."""
    windows = [window for window in windows_of(model).values() if window is not None]
    if "local" in getattr(model.config, "attention_layers", []):  # GPT-Neo's, which its cache doesn't tell
        windows.append(model.config.window_size)
    return min(windows, default=NO_WINDOW)


def _sequences(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output.sequences


def _as_given(request: Request, output: Any) -> Any:
    """The output with the rows as given before its sequences."""
    rows = request.given.repeat_interleave(request.sequences, dim=0)
    answers = torch.cat([rows, _sequences(output)], dim=1)
    if isinstance(output, Tensor):
        return answers
    output.sequences = answers
    return output
