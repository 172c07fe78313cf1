"""Rows of random tokens, the batches that are hard for a shared prefix, and their losses by the plainest path."""

import torch
from peft import PeftModelForCausalLM
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tests.engine.architectures import VOCABULARY, WINDOW

Row = tuple[list[int], list[int]]  # input_ids, labels
SHORT, LONG = [7, 8, 9, 10], list(range(20, 20 + 2 * WINDOW))  # preambles


def row(length: int, labels: int, preamble: list[int] | tuple[()] = ()) -> Row:
    """`length` tokens that begin with `preamble`; the last `labels` are labels. Equal arguments give equal rows."""
    generator = torch.Generator().manual_seed(1000 * length + labels)
    rest = torch.randint(3, VOCABULARY, (length - len(preamble),), generator=generator).tolist()
    ids = [*preamble, *rest]
    return ids, [-100] * (length - labels) + ids[length - labels :]


BATCHES: dict[str, list[Row]] = {
    "common preamble": [row(14, 4, SHORT), row(9, 3, SHORT), row(20, 9, SHORT)],
    "preamble longer than the window": [row(30, 3, LONG), row(26, 1, LONG), row(45, 14, LONG)],
    "no preamble": [row(8, 3), row(9, 2)],
    "one row": [row(11, 4)],
    "one row longer than the window": [row(3 * WINDOW, 4)],
    "equal lengths": [row(9, 4, SHORT), row(9, 5, SHORT), row(9, 1, SHORT)],
    "very unequal lengths": [row(3, 1), row(40, 30, SHORT)],
    "labels at once": [row(6, 6), row(9, 3)],
    "labels right after the preamble": [row(9, 5, SHORT), row(12, 3, SHORT)],
    "nothing but one label after the preamble": [row(5, 1, SHORT), ([*SHORT, 11], [-100] * 4 + [11])],
    "one token that is a label": [row(1, 1), row(4, 2)],
    "labels with gaps": [([7, 8, 9, 3, 4, 5], [-100, 8, -100, 3, -100, 5]), ([7, 8, 6], [-100, -100, 6])],
    "a row without labels": [row(6, 0, SHORT), row(9, 2, SHORT)],
}
UNLABELLED = [-100] * 4
# Rows, and how many tokens of them are a preamble.
PREAMBLES: list[tuple[list[Row], int]] = [
    ([row(9, 3, SHORT), row(12, 3, SHORT)], 4),
    ([row(9, 3, SHORT), row(4, 0, SHORT)], 3),  # the shortest row keeps its last token
    (
        [([7, 8, 9, 3], UNLABELLED), ([7, 5, 9, 4], UNLABELLED)],
        1,
    ),  # what is equal again after a difference is not common
    ([([7, 8, 9, 3], UNLABELLED), ([5, 8, 9, 4], UNLABELLED)], 0),
    ([([7], [-100]), ([7, 8], [-100, -100])], 0),
    ([([7, 8, 9, 3], [-100, -100, -100, 3])], 3),  # one row is like itself
]


def rows_of(name: str) -> list[dict[str, list[int]]]:
    """A batch of `BATCHES` as `token_losses` takes it."""
    return [{"input_ids": ids, "labels": labels} for ids, labels in BATCHES[name]]


def padded(rows: list[Row], side: str = "right") -> dict[str, Tensor]:
    """`forward`'s arguments: each (rows, longest)."""
    width = max(len(ids) for ids, _ in rows)

    def pad(values: list[int], value: int) -> list[int]:
        padding = [value] * (width - len(values))
        return padding + values if side == "left" else values + padding

    return {
        "input_ids": torch.tensor([pad(ids, 0) for ids, _ in rows]),
        "attention_mask": torch.tensor([pad([1] * len(ids), 0) for ids, _ in rows]),
        "labels": torch.tensor([pad(labels, -100) for _, labels in rows]),
    }


def alone(model: PeftModelForCausalLM, rows: list[Row]) -> list[Tensor]:
    """Loss of every label, (labels,) for each row: from PEFT's own logits of that row alone, unpadded, in float64."""
    losses = []
    for ids, labels in rows:
        logits = PeftModelForCausalLM.forward(
            model, input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long)
        ).logits[0]
        ahead = len(logits) - len(ids)  # virtual tokens; none where they are keys and values
        predicted = [at for at, label in enumerate(labels) if label != -100 and at + ahead > 0]
        predictors = torch.tensor([at + ahead - 1 for at in predicted], dtype=torch.long)
        wanted = torch.tensor([labels[at] for at in predicted], dtype=torch.long)
        losses.append(cross_entropy(logits[predictors].double(), wanted, reduction="none"))
    return losses


@torch.no_grad()
def answer_alone(model: PeftModelForCausalLM, ids: list[int], new: int) -> list[int]:
    """`new` tokens, each the likeliest by PEFT's logits of one unpadded row, without a cache."""
    ids, given = list(ids), len(ids)
    for _ in range(new):
        ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[given:]


def gradients(model: PeftModelForCausalLM, loss: Tensor) -> list[Tensor]:
    """Of `loss` by every parameter of the prompt encoder."""
    parameters = [parameter for parameter in model.prompt_encoder.parameters() if parameter.requires_grad]
    found = torch.autograd.grad(loss, parameters, allow_unused=True)  # LSTM has biases that PEFT's order never reaches
    return [torch.zeros_like(of) if by is None else by for of, by in zip(parameters, found, strict=True)]


def prompt_gradients(model: nn.Module) -> list[Tensor]:
    """What backward passes left at the prompt encoder's parameters; they are cleared."""
    left = [parameter.grad for parameter in model.prompt_encoder.parameters() if parameter.requires_grad]
    model.zero_grad()
    return left


def assert_equal_gradients(ours: list[Tensor], theirs: list[Tensor], relative: float = 1e-6) -> None:
    assert len(ours) == len(theirs) > 0
    for mine, right in zip(ours, theirs, strict=True):
        assert mine is not None
        assert float((mine - right).norm()) <= relative * float(right.norm())
