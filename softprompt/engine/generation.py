"""Generation conditioned on a shared prefix, by transformers' own `generate`.

Rows of unequal length are padded between the prefix and the rest of each row; the mask hides the padding, and positions
follow from the mask. A window of attention counts padding all the same, so where one could be left, rows of equal
length go together and nothing is padded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, PreTrainedModel

from softprompt.data.tokens import IGNORED
from softprompt.engine.prefix import Rows, run_prefix
from softprompt.engine.sharing import windows_of


@dataclass(frozen=True)
class Request:
    """A call of `generate`: the rows as given, (rows, length), what is real in them, and the settings."""

    given: Tensor
    rows: Rows
    config: GenerationConfig
    settings: dict[str, Any]

    @classmethod
    def of(cls, model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor | None, **settings: Any) -> "Request":
        """From the arguments of `generate`."""
        config = settings.get("generation_config") or model.generation_config
        rows = Rows.of(input_ids, attention_mask, torch.full_like(input_ids, IGNORED))
        return cls(input_ids, rows, config, settings)

    def setting(self, name: str) -> Any:
        """What holds: the argument, else the generation config's value."""
        value = self.settings.get(name)
        return getattr(self.config, name) if value is None else value

    @property
    def padding(self) -> int:
        """What transformers' `generate` fills with: the padding token, else the first end token."""
        ends = self.setting("eos_token_id")
        end = ends[0] if isinstance(ends, list) and ends else ends
        found = self.setting("pad_token_id")
        return next((token for token in (found, end) if isinstance(token, int)), 0)

    def settings_for(self, length: int) -> dict[str, Any]:
        """The settings for rows that come as `length` tokens: total lengths count from the rows as given."""
        settings = dict(self.settings)
        for name, new in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
            settings.pop(name, None)
            if self.setting(name) is not None and self.setting(new) is None:
                settings[name] = self.setting(name) + length - self.given.shape[1]
        return settings


def generate_from_prompt(model: PreTrainedModel, prompt: Tensor | DynamicCache | None, request: Request) -> Any:
    """Answers conditioned on `prompt`, which runs once with what all rows begin with; see `run_prefix`."""
    width = request.rows.input_ids.shape[1] + (request.setting("max_new_tokens") or 2**31)
    if isinstance(prompt, Tensor | DynamicCache):
        width += prompt.shape[1] if isinstance(prompt, Tensor) else prompt.get_seq_length()
    if width <= _window(model):
        return _as_given(request, _behind(model, prompt, request, request.rows), request.rows.width)
    return in_equal_lengths(request, lambda rows: _behind(model, prompt, request, rows))


def in_equal_lengths(request: Request, generate: Callable[[Rows], Any]) -> Any:
    """`generate` for the rows of each length by themselves, whose sequences begin with them; then all in order.

    Where there are several lengths, an output object keeps its sequences and nothing else: scores share no shape.
    """
    lengths = request.rows.lengths
    groups = [(lengths == length).nonzero().squeeze(1) for length in lengths.unique()]
    outputs = [generate(request.rows.select(group)) for group in groups]
    if len(groups) == 1:
        return _as_given(request, outputs[0], int(lengths[0]))
    sequences = request.setting("num_return_sequences") or 1
    answers = [_sequences(output)[:, int(lengths[group[0]]) :] for group, output in zip(groups, outputs, strict=True)]
    width = max(answer.shape[1] for answer in answers)
    together = request.given.new_full((len(request.given) * sequences, width), request.padding)
    for group, answer in zip(groups, answers, strict=True):
        places = (group.unsqueeze(1) * sequences + torch.arange(sequences, device=group.device)).flatten()
        together[places, : answer.shape[1]] = answer
    together = torch.cat([request.given.repeat_interleave(sequences, dim=0), together], dim=1)
    return together if isinstance(outputs[0], Tensor) else type(outputs[0])(sequences=together)


def _behind(model: PreTrainedModel, prompt: Tensor | DynamicCache | None, request: Request, rows: Rows) -> Any:
    """`generate` from the cache of the prefix on, expanded over `rows`; sequences begin with `rows.width` tokens."""
    count, common = len(rows.input_ids), rows.preamble_length()
    prefix = run_prefix(model, prompt, rows.input_ids[0, :common])
    sequences = request.setting("num_return_sequences") or 1
    cache = prefix.expanded(count * max(request.setting("num_beams") or 1, sequences))
    rest = rows.input_ids[:, common:]
    real = torch.arange(rest.shape[1], device=rest.device) < (rows.lengths - common).unsqueeze(1)
    order = real.to(torch.int8).argsort(dim=1, stable=True)  # padding to the left
    rest, real = rest.gather(1, order), real.gather(1, order)
    ahead = cache.get_seq_length() if cache is not None else 0
    # Virtual tokens have no ids. Padding in their place is what penalties on repeated tokens mind least.
    stand_in = rest.new_full((count, ahead - common), request.padding)
    ids = torch.cat([stand_in, rows.input_ids[:, :common], rest], dim=1)
    mask = torch.cat([real.new_ones(count, ahead), real], dim=1).long()
    settings = request.settings_for(ids.shape[1])
    output = cast(Any, model).generate(input_ids=ids, attention_mask=mask, past_key_values=cache, **settings)
    return _without(output, ids.shape[1] - rows.width)


def _window(model: PreTrainedModel) -> int:
    """Positions that the narrowest window of attention spans."""
    windows = [window for window in windows_of(model).values() if window is not None]
    if "local" in getattr(model.config, "attention_layers", []):  # GPT-Neo's, which its cache doesn't tell
        windows.append(model.config.window_size)
    return min(windows, default=2**62)


def _sequences(output: Any) -> Tensor:
    return output if isinstance(output, Tensor) else output.sequences


def _without(output: Any, ahead: int) -> Any:
    """The output without the first `ahead` tokens of its sequences."""
    if isinstance(output, Tensor):
        return output[:, ahead:]
    output.sequences = output.sequences[:, ahead:]
    return output


def _as_given(request: Request, output: Any, length: int) -> Any:
    """The output with the rows as given in place of the first `length` tokens of its sequences."""
    sequences = request.setting("num_return_sequences") or 1
    answers = _sequences(output)[:, length:]
    answers = torch.cat([request.given.repeat_interleave(sequences, dim=0), answers], dim=1)
    if isinstance(output, Tensor):
        return answers
    output.sequences = answers
    return output
