"""`SharedPrefixModel`: PEFT's model for prompt methods, with a forward that runs the prompt once for all rows."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from peft import PeftConfig, PeftModelForCausalLM, PeftType, load_peft_weights, set_peft_model_state_dict
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from softprompt.data.tokens import Row
from softprompt.engine.batches import collate
from softprompt.engine.compiled import Graphs
from softprompt.engine.generation import (
    Request,
    answers_of,
    generate_after_prompt,
    in_equal_lengths,
    without_own_settings,
)
from softprompt.engine.linear import freeze
from softprompt.engine.losses import losses_of_logits
from softprompt.engine.packable import packing_obstacle
from softprompt.engine.packed import packed_losses
from softprompt.engine.packing import pack, unpadded
from softprompt.engine.prefix import run_prefix
from softprompt.engine.sharing import gap_in, looks_up_ids, obstacle, steady_lengths
from softprompt.runtime.errors import InputError

NO_LIMIT = 2**62
METHODS = (PeftType.PROMPT_TUNING, PeftType.P_TUNING, PeftType.PREFIX_TUNING, PeftType.LORA)


class SharedPrefixModel(PeftModelForCausalLM):
    """A frozen causal language model with what PEFT adds to it, exact and without repeated work.

    PEFT repeats the prompt for every row and makes logits at every position. Here a batch's loss costs one forward of
    batch 1 over one packed sequence, which has the prompt and what all rows begin with once and no padding, and logits
    at labels: see `softprompt.engine.packing` for the mathematics. `labels` select that path; without them, and with
    arguments that it doesn't know (`output_attentions`, `inputs_embeds`, …), forward is PEFT's own. Saved adapters are
    PEFT's. LoRA puts no prompt in front; its batches are packed all the same.

    The base model is frozen and in evaluation mode for good: dropout in it would differ between rows that share a
    prefix. Where an architecture can't share a prefix, PEFT's forward serves, and one warning says why.

    Attributes:
        steady: positions up to which rotary embeddings don't depend on the longest one of a forward.
        graphs: CUDA graphs that training replays; None: there are none.
        compiled: whether the decoder's layers are compiled in packed forwards.
        puts_prompt: whether virtual tokens stand in front of each row, as they do but for LoRA.

    Args:
        model: the base model; its parameters are frozen, and its linear layers become `FrozenLinear`.
        peft_config: of prompt tuning, P-tuning, prefix tuning or LoRA.
        adapter_name, kwargs: as PEFT's.

    Raises:
        ValueError: for another method, or for virtual tokens where the model's layers look up token ids.
    """

    def __init__(
        self, model: PreTrainedModel, peft_config: PeftConfig, adapter_name: str = "default", **kwargs: Any
    ) -> None:
        if peft_config.peft_type not in METHODS:
            allowed = ", ".join(method.value for method in METHODS)
            raise ValueError(f"SharedPrefixModel: {peft_config.peft_type} is not known here; allowed: {allowed}")
        if peft_config.peft_type in (PeftType.PROMPT_TUNING, PeftType.P_TUNING) and looks_up_ids(model):
            raise ValueError(
                f"SharedPrefixModel: the layers of {type(model).__name__} look up token ids, which virtual tokens "
                f"don't have; allowed: {PeftType.PREFIX_TUNING.value}, {PeftType.LORA.value}"
            )
        freeze(model)
        super().__init__(model, peft_config, adapter_name, **kwargs)
        self.puts_prompt = peft_config.is_prompt_learning
        self.prompted = self.puts_prompt
        self._kept: DynamicCache | None = None
        self.graphs: Graphs | None = None
        self.compiled = False
        self.eval()
        trained = peft_config.peft_type == PeftType.PREFIX_TUNING
        gaps = gap_in(self.prompt())
        obstacles = {
            "losses": packing_obstacle(model, trained=trained) or gaps,
            "answers": obstacle(model, self.virtual_tokens) or gaps,
        }
        self.steady = min(steady_lengths(model).values(), default=NO_LIMIT)
        self.packs_rows, self.shares_prefix = (reason is None for reason in obstacles.values())
        if reasons := dict.fromkeys(reason for reason in obstacles.values() if reason is not None):
            what = " and ".join(name for name, reason in obstacles.items() if reason is not None)
            kind = type(model).__name__
            warnings.warn(
                f"{kind}: no shared prefix, PEFT's slower forward serves for {what}: {'; '.join(reasons)}", stacklevel=2
            )

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, model: PreTrainedModel, model_id: str, adapter_name: str = "default", **kwargs: Any
    ) -> "SharedPrefixModel":
        """`model` with a saved adapter, for inference; PEFT's own makes its own class whatever it is called on."""
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
        for module in self.prompt_encoder.modules() if self.puts_prompt else ():
            if isinstance(module, nn.LSTM) and not module.dropout:
                module.train()  # else cudnn refuses its backward; without dropout both modes compute the same
        return self

    @property
    def frozen(self) -> PreTrainedModel:
        """The base model; with LoRA, its layers have what was added to them."""
        return cast(PreTrainedModel, self.get_base_model())

    @property
    def virtual_tokens(self) -> int:
        """Length of the prompt; of LoRA 0."""
        return self.active_peft_config.num_virtual_tokens if self.puts_prompt else 0

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Within the block the model is the base model, as in PEFT's."""
        before, self.prompted = self.prompted, False
        try:
            with super().disable_adapter():
                yield
        finally:
            self.prompted = before

    def prompt(self) -> Tensor | DynamicCache | None:
        """The prompt of one row: embeddings, (1, virtual tokens, hidden), or a cache of keys and values.

        None of LoRA, and where the adapter is disabled (PEFT's `disable_adapter`).
        """
        if not self.prompted:
            return None
        prompt: Any = self.get_prompt(batch_size=1)
        return prompt.to(self.frozen.dtype) if isinstance(prompt, Tensor) else prompt

    @torch.no_grad()
    def keep_prompt(self) -> None:
        """Run the prompt now, for every later `generate`: for a prompt that is trained no more."""
        if self.shares_prefix and isinstance(prompt := self.prompt(), Tensor):
            self._kept = run_prefix(self.frozen, prompt, torch.empty(0, dtype=torch.long, device=self.device))

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
            inputs_embeds: takes PEFT's forward.
            labels: token ids, and -100 where there is none; a label at the first position counts where virtual tokens
                predict it.
            num_items_in_batch: what to divide the summed loss by (`Trainer` gives the labels of the whole optimizer
                step); None: the labels of this batch.
            kwargs: `use_cache=False` and `return_dict=True` change nothing; with any other set, PEFT's forward serves.

        Returns:
            An output with `loss`, a scalar, and no logits.
        """
        # What an ordinary training loop passes, and what changes no loss.
        neutral = {"use_cache": False, "return_dict": True}
        asked = [name for name, value in kwargs.items() if value is not None and neutral.get(name) is not value]
        if input_ids is None or labels is None or asked:
            inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "inputs_embeds": inputs_embeds}
            if num_items_in_batch is not None:
                kwargs["num_items_in_batch"] = num_items_in_batch
            return super().forward(**inputs, labels=labels, **kwargs)
        losses, _ = self.token_losses(unpadded(input_ids, attention_mask, labels))
        return CausalLMOutputWithPast(
            loss=losses.sum() / (len(losses) if num_items_in_batch is None else num_items_in_batch)
        )

    def token_losses(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """Loss of each label of `rows` in nats, (labels,), and the row that it is in, (labels,).

        A label at a row's first position counts where virtual tokens predict it.
        """
        if self.packs_rows:
            packed = pack(rows, 1 if self.device.type == "cpu" else 16)
            graphs = self.graphs if torch.is_grad_enabled() else None
            return packed_losses(self.frozen, self.prompt(), packed, run=graphs, compiled=self.compiled)
        # Rotary embeddings are one set for a whole batch.
        short = [self._ahead + len(row["input_ids"]) <= self.steady for row in rows]
        groups = [[at for at, is_short in enumerate(short) if is_short == wanted] for wanted in (True, False)]
        parts = [(group, *self._unpacked_losses([rows[at] for at in group])) for group in groups if group]
        losses = torch.cat([part for _, part, _ in parts])
        row = torch.cat([torch.tensor(group, device=of.device)[of] for group, _, of in parts])
        order = row.argsort(stable=True)
        return losses[order], row[order]

    def _unpacked_losses(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        batch = {name: values.to(self.device) for name, values in collate(rows).items()}
        labels = batch.pop("labels")
        forward = super().forward if self.prompted or not self.puts_prompt else self.frozen
        return losses_of_logits(forward(**batch).logits, labels)

    @property
    def _ahead(self) -> int:
        """Positions that the prompt takes."""
        return self.virtual_tokens if self.prompted else 0

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """As PEFT's `generate`: rows padded anywhere, answers equal to those of each row alone.

        The prompt and the rows' common preamble run once; transformers' `generate` goes on from their cache. Rows may
        come as the first argument, `inputs` or `input_ids`. `watch` is a `softprompt.engine.watching.Watch`.

        Returns:
            What transformers' `generate` returns: the rows as given, and after them the new tokens.

        Raises:
            ValueError: naming what can't be done after a prompt: decoding by contrast, `negative_prompt_ids`, ….
            InputError: if rotary embeddings would change after a prompt of keys and values.
        """
        if len(args) > 2:
            raise ValueError("generate: allowed by position: inputs and generation_config; the others by name")
        kwargs |= dict(zip(("inputs", "generation_config"), args, strict=False))
        ids = kwargs.pop("inputs", kwargs.pop("input_ids", None))
        if ids is None or kwargs.get("inputs_embeds") is not None:
            return super().generate(input_ids=ids, **kwargs)
        request = Request.of(self.frozen, ids, kwargs.pop("attention_mask", None), **kwargs)
        longest = self._ahead + request.longest
        if longest > self.steady and isinstance(self.prompt(), DynamicCache):
            raise InputError(
                f"a prefix of keys and values, a row and its answer make {longest} tokens, but this "
                f"{self.frozen.config.model_type} model's rotary embeddings change beyond {self.steady}; allowed: "
                "shorter rows and answers (max_new_tokens), or train.method: prompt_tuning or p_tuning"
            )
        with torch.no_grad():
            if self.shares_prefix and longest <= self.steady:
                is_kept = self.prompted and self._kept is not None
                return generate_after_prompt(self.frozen, self._kept if is_kept else self.prompt(), request)
            return in_equal_lengths(request, partial(self._generate_unshared, request))

    def _generate_unshared(self, request: Request, chosen: Tensor) -> Any:
        """PEFT's `generate` for rows of equal length.

        Without a cache: with one it loses the prompt in some models. A prompt of keys and values is a cache; without
        one PEFT takes the last token alone, at the positions of all.
        """
        ids = request.rows.select(chosen).input_ids
        config = request.config_for(ids.shape[1])
        config.use_cache = isinstance(self.prompt(), DynamicCache)
        arguments = {"attention_mask": torch.ones_like(ids), "generation_config": config}
        with without_own_settings(self.frozen):
            output = super().generate(input_ids=ids, **arguments, **request.arguments_for(chosen))
        return answers_of(output, ids.shape[1])
