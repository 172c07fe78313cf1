"""`SharedPrefixModel`: PEFT's model for prompt methods, with a forward that runs the prompt once for all rows."""

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from peft import PeftConfig, PeftModelForCausalLM, PeftType, load_peft_weights, set_peft_model_state_dict
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from softprompt.engine.generation import Request, generate_behind, in_equal_lengths
from softprompt.engine.linear import freeze
from softprompt.engine.losses import losses_of_logits
from softprompt.engine.prefix import Prefix, Rows, row_losses_behind, run_prefix
from softprompt.engine.sharing import obstacle

METHODS = (PeftType.PROMPT_TUNING, PeftType.P_TUNING, PeftType.PREFIX_TUNING)


class SharedPrefixModel(PeftModelForCausalLM):
    """A frozen causal language model behind a soft prompt, exact and without repeated work.

    PEFT repeats the prompt for every row and makes logits at every position. Here a batch's loss costs one forward of
    batch 1 over the prompt and the batch's common preamble, one forward over the rest of each row, and logits at
    labels: see `softprompt.engine.prefix` for the mathematics. `labels` select that path; without them, and with
    arguments that it doesn't know (`output_attentions`, `inputs_embeds`, …), forward is PEFT's own. Saved adapters are
    PEFT's.

    The base model is frozen and in evaluation mode for good: dropout in it would differ between rows that share a
    prefix. Where an architecture can't share a prefix, PEFT's forward serves, and one warning says why.

    Args:
        model: the base model; its parameters are frozen, and its linear layers become `FrozenLinear`.
        peft_config: of prompt tuning, P-tuning or prefix tuning.
        adapter_name, kwargs: as PEFT's.

    Raises:
        ValueError: for another method.
    """

    def __init__(
        self, model: PreTrainedModel, peft_config: PeftConfig, adapter_name: str = "default", **kwargs: Any
    ) -> None:
        if peft_config.peft_type not in METHODS:
            allowed = ", ".join(method.value for method in METHODS)
            raise ValueError(f"SharedPrefixModel: {peft_config.peft_type} puts no prompt first; allowed: {allowed}")
        freeze(model)
        super().__init__(model, peft_config, adapter_name, **kwargs)
        self.eval()
        self._step: tuple[Prefix, Prefix] | None = None
        reason = obstacle(model, peft_config.num_virtual_tokens)  # type: ignore[attr-defined]
        self.shares_prefix = reason is None
        if reason is not None:
            kind = type(model).__name__
            warnings.warn(f"{kind}: no shared prefix, PEFT's slower forward serves: {reason}", stacklevel=2)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, model: PreTrainedModel, model_id: str, adapter_name: str = "default", **kwargs: Any
    ) -> "SharedPrefixModel":
        """`model` behind a saved adapter, for inference; PEFT's own makes its own class whatever it is called on."""
        config = PeftConfig.from_pretrained(model_id)
        config.inference_mode = True
        loaded = cls(model, config, adapter_name)
        # Not `load_adapter`: it would split a model that is split over devices anew, and can't find its weights then.
        weights = load_peft_weights(model_id, device=str(model.device), **kwargs)
        set_peft_model_state_dict(loaded, weights, adapter_name)
        return loaded

    def train(self, mode: bool = True) -> "SharedPrefixModel":
        """Set the prompt's mode; the base model stays in evaluation mode."""
        super().train(mode)
        self.base_model.eval()
        return self

    @property
    def frozen(self) -> PreTrainedModel:
        """The base model."""
        return cast(PreTrainedModel, self.base_model)

    def prompt(self) -> Tensor | DynamicCache | None:
        """The prompt of one row: embeddings, (1, virtual tokens, hidden), or a cache of keys and values.

        None where the adapter is disabled (PEFT's `disable_adapter`).
        """
        if self._adapters_disabled:
            return None
        prompt: Any = self.get_prompt(batch_size=1)
        return prompt.to(self.frozen.dtype) if isinstance(prompt, Tensor) else prompt

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **kwargs: Any,
    ) -> Any:
        """With `input_ids` and `labels`, each (rows, length), the loss of the batch; else PEFT's forward.

        Args:
            input_ids: padded anywhere, as `attention_mask` (rows, length) says.
            attention_mask: 1 at tokens, 0 at padding; None: no padding.
            inputs_embeds: takes PEFT's road.
            labels: token ids, and -100 where there is none; a label at the first position counts where virtual tokens
                predict it.
            num_items_in_batch: what to divide the summed loss by (`Trainer` gives the labels of the whole optimizer
                step); None: the labels of this batch.
            kwargs: passed on; with any set, PEFT's forward serves.

        Returns:
            An output with `loss`, a scalar, and no logits.
        """
        if input_ids is None or labels is None or any(value is not None for value in kwargs.values()):
            inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "inputs_embeds": inputs_embeds}
            return super().forward(**inputs, labels=labels, **kwargs)
        losses, _ = self.token_losses(input_ids, attention_mask, labels)
        items = len(losses) if num_items_in_batch is None else num_items_in_batch
        return CausalLMOutputWithPast(loss=losses.sum() / items)

    def token_losses(self, input_ids: Tensor, attention_mask: Tensor | None, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of each label in nats, (labels,), and the row that it stands in, (labels,); arguments as `forward`'s."""
        rows = Rows.of(input_ids, attention_mask, labels)
        if not self.shares_prefix:
            return self._token_losses_of_peft(rows)
        prefix = self._step[1] if self._step else self._prefix_of([rows])
        return row_losses_behind(self.frozen, prefix, rows)

    def _prefix_of(self, batches: Sequence[Rows]) -> Prefix:
        """The prompt and what all rows of all `batches` begin with, run once."""
        length = min(rows.preamble_length() for rows in batches)
        first = batches[0].input_ids[0, :length]
        differs = torch.stack([(rows.input_ids[0, :length] != first) for rows in batches]).any(dim=0)
        return run_prefix(self.frozen, self.prompt(), first[: int((~differs).cumprod(dim=0).sum())])

    def begin_step(self, batches: Sequence[dict[str, Tensor]]) -> None:
        """Run one prefix for all micro-batches of an optimizer step, given as `forward`'s arguments.

        Until `end_step`, forward puts each of them behind it, and backward passes collect their gradients at it.
        """
        if self.shares_prefix:
            prefix = self._prefix_of(
                [Rows.of(batch["input_ids"], batch.get("attention_mask"), batch["labels"]) for batch in batches]
            )
            self._step = (prefix, prefix.detached())

    def end_step(self) -> None:
        """Take the gradients that the step's micro-batches left at the prefix through it to the prompt."""
        if self._step is not None:
            pairs = zip(*(prefix.tensors() for prefix in self._step), strict=True)
            reached = [(tensor, leaf.grad) for tensor, leaf in pairs if leaf.grad is not None]
            self.forget_step()
            torch.autograd.backward([tensor for tensor, _ in reached], [gradient for _, gradient in reached])

    def forget_step(self) -> None:
        """Drop the prefix of a step that was interrupted before its end."""
        self._step = None

    def _token_losses_of_peft(self, rows: Rows) -> tuple[Tensor, Tensor]:
        mask = torch.arange(rows.input_ids.shape[1], device=rows.lengths.device) < rows.lengths.unsqueeze(1)
        forward = self.frozen if self._adapters_disabled else super().forward
        logits = forward(input_ids=rows.input_ids, attention_mask=mask.long()).logits
        return losses_of_logits(logits, rows.labels)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """As PEFT's `generate`: rows padded anywhere, answers equal to those of each row alone.

        The prompt and the rows' common preamble run once; transformers' `generate` goes on from their cache, so all of
        its settings hold. Rows may come as the first argument, `inputs` or `input_ids`.

        Returns:
            What transformers' `generate` returns: the rows as given, and after them the new tokens.
        """
        ids = args[0] if args else kwargs.pop("inputs", kwargs.pop("input_ids", None))
        if ids is None or kwargs.get("inputs_embeds") is not None:
            return super().generate(input_ids=ids, **kwargs)
        request = Request.of(self.frozen, ids, kwargs.pop("attention_mask", None), **kwargs)
        with torch.no_grad():
            if self.shares_prefix:
                return generate_behind(self.frozen, self.prompt(), request)
            return in_equal_lengths(request, partial(self._generate_unshared, request))

    def _generate_unshared(self, request: Request, rows: Rows) -> Any:
        """PEFT's `generate` for rows of equal length, without a cache: with one it loses the prompt in some models."""
        settings = {**request.settings_for(rows.width), "use_cache": False}
        mask = torch.ones_like(rows.input_ids)
        return super().generate(input_ids=rows.input_ids, attention_mask=mask, **settings)
