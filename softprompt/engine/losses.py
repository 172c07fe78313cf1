"""Cross-entropy at the labels, in chunks: no tensor of batch x length x vocabulary, in forward or backward."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from softprompt.data.tokens import IGNORED
from softprompt.engine.forwards import replaced_forward

# Labels whose logits are alive at once. Each chunk reads the whole output layer, forward and backward, so it needs as
# many labels as keep the processor busy meanwhile. On two cores of an Intel Xeon, 256 are 1.9 times as fast as 32 at
# Gemma 3's vocabulary, and 1.5 times as fast as 55 at Qwen2.5's; the logits then take 268 or 156 MB, and their gradient
# as much. An H100 does some 300 operations in the time of a byte (989 TFLOP/s by 3.35 TB/s); 2**27 logits are 880
# labels of Qwen2.5's, and 512 MiB.
LABELS_AT_ONCE, GPU_LOGITS_AT_ONCE = 256, 2**27


def head_logits(model: PreTrainedModel, states: Tensor) -> Tensor:
    """The model's own path from last hidden states to logits: (n, hidden) -> (n, vocabulary).

    Its forward runs around a decoder that returns `states`, so that whatever comes after the output layer in an
    architecture (soft-capping, scaling) is the architecture's own code.
    """
    output = _DecoderOutput(last_hidden_state=states.unsqueeze(0))
    with replaced_forward(model.get_decoder(), lambda *_, **__: output):
        return model(inputs_embeds=states.unsqueeze(0), use_cache=False).logits.squeeze(0)


class _DecoderOutput(BaseModelOutputWithPast):
    """A decoder's output without what some architectures add (cross-attentions, router logits)."""

    def __getattr__(self, name: str) -> None:
        return None


class _LabelLosses(torch.autograd.Function):
    """Loss of each label; its gradient by the hidden state is made in forward, while the chunk's logits exist."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, labels: Tensor, head: Callable[[Tensor], Tensor], chunk: int) -> Tensor:
        losses, gradients = [], []
        for chunk_states, wanted in zip(states.split(chunk), labels.split(chunk), strict=True):
            rows = chunk_states.detach().requires_grad_(ctx.needs_input_grad[0])
            with torch.set_grad_enabled(ctx.needs_input_grad[0]):
                logits = head(rows)
            compute = _compiled() if logits.device.type == "cuda" else _plain
            loss, by_logits = compute(logits.detach(), wanted)
            losses.append(loss)
            if ctx.needs_input_grad[0]:
                gradients += torch.autograd.grad(logits, rows, by_logits)
        if gradients:
            ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(losses)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (by_state,) = ctx.saved_tensors
        return by_state * gradients[0].unsqueeze(1).to(by_state.dtype), None, None, None


def _plain(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of each label, (n,), and its gradient by the logits, (n, vocabulary), in the logits' dtype."""
    # In float32 at least, as transformers' own loss is; float64 stays.
    z = logits.to(torch.promote_types(logits.dtype, torch.float32))
    highest, at = z.max(dim=-1)
    p = z.softmax(dim=-1)
    # log sum exp z = max z - log max p: no further pass over the vocabulary, and no cancellation.
    normaliser = highest - p.gather(1, at.unsqueeze(1)).squeeze(1).log()
    losses = normaliser - z.gather(1, wanted.unsqueeze(1)).squeeze(1)
    p[torch.arange(len(wanted), device=p.device), wanted] -= 1  # d loss / d z = p - one-hot(label)
    return losses, p.to(logits.dtype)


def _fusible(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """The same, where a compiler fuses: logits are read twice, and their gradient is written once."""
    z = logits.to(torch.promote_types(logits.dtype, torch.float32))
    normaliser = z.logsumexp(dim=-1)
    losses = normaliser - z.gather(1, wanted.unsqueeze(1)).squeeze(1)
    p = torch.exp(z - normaliser.unsqueeze(1))
    is_label = torch.arange(z.shape[1], device=z.device) == wanted.unsqueeze(1)
    return losses, torch.where(is_label, p - 1, p).to(logits.dtype)


@cache
def _compiled() -> Any:
    return torch.compile(_fusible, dynamic=True)  # not as this is imported: torch then imports its whole compiler


def label_losses(model: PreTrainedModel, states: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each label, in nats: (n, hidden), (n,) -> (n,).

    Args:
        model: gives the path from hidden states to logits.
        states: the last hidden states that predict the labels.
        labels: token ids.
    """
    on_cpu = states.device.type == "cpu"
    chunk = LABELS_AT_ONCE if on_cpu else max(1, GPU_LOGITS_AT_ONCE // model.config.get_text_config().vocab_size)
    return _LabelLosses.apply(states, labels, lambda rows: head_logits(model, rows), chunk)


def losses_of_logits(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of each label in nats, (labels,), and the row that it is in, (labels,), from a forward that made all logits.

    Args:
        logits: (rows, ahead + length, vocabulary): `ahead` positions stand before the first token.
        labels: (rows, length).
    """
    row, position = (labels != IGNORED).nonzero(as_tuple=True)
    predictor = position + logits.shape[1] - labels.shape[1] - 1
    row, position, predictor = (kept[predictor >= 0] for kept in (row, position, predictor))
    predictions = logits[row, predictor]
    predictions = predictions.to(torch.promote_types(predictions.dtype, torch.float32))
    return cross_entropy(predictions, labels[row, position], reduction="none"), row
