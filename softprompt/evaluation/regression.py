"""Regression: what the prompts do to out-of-domain text."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from softprompt.config.general import General
from softprompt.data.rows import short_hash
from softprompt.data.tokens import IGNORED, beginning_ids, check_embedded
from softprompt.evaluation.metrics import loss_metrics
from softprompt.runtime.errors import InputError


def text_blocks(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, general: General
) -> pd.DataFrame:
    """Blocks of `general.block_tokens` tokens of the texts, in their order: at most `general.blocks`, of lowest hash.

    A block begins as the tokenizer begins a text, with a BOS where it has one. A text's rest that fills no block is
    left out. Every token but a block's first has a label, the same ones for the base model, for which nothing predicts
    the first.

    Returns:
        `input_ids`, `labels`, and `question_id`: the text that a block is of, since blocks of one are not independent.

    Raises:
        InputError: if the texts make none, or one with a token that a model of `config` has no embedding of.
    """
    beginning, found = beginning_ids(tokenizer), []
    length, unpredicted = max(general.block_tokens - len(beginning), 1), max(len(beginning), 1)
    # A special token that a text spells is text.
    encoded = tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False)
    for place, ids in enumerate(encoded["input_ids"]):
        for start in range(0, len(ids) - length + 1, length):
            block = beginning + ids[start : start + length]
            labels = [IGNORED] * unpredicted + block[unpredicted:]
            found.append({"input_ids": block, "labels": labels, "question_id": place})
    if not found:
        raise InputError(
            f"general.block_tokens: no text of general.source has {length} tokens; allowed: fewer, or longer texts"
        )
    ranked = sorted(range(len(found)), key=lambda index: short_hash(str(found[index]["input_ids"])))
    blocks = pd.DataFrame([found[index] for index in sorted(ranked[: general.blocks])])
    check_embedded(blocks["input_ids"].explode(), tokenizer, config, "general.source")
    return blocks


def blocks_in(
    folder: Path, tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, general: General
) -> pd.DataFrame | None:
    """`text_blocks` of what fetch_general has written; None where no text was asked for."""
    texts = pd.read_parquet(folder / "texts.parquet")["text"].tolist()
    return text_blocks(texts, tokenizer, config, general) if texts else None


def regression(losses: pd.DataFrame, blocks: pd.DataFrame, folder: Path) -> dict[str, Any]:
    """Loss per token of each variant on `text_blocks`, and the paired differences, with texts resampled.

    Args:
        losses: `Variants.losses` of the blocks.
        blocks: the blocks.
        folder: what they are of.
    """
    source = json.loads((folder / "source.json").read_text(encoding="utf-8"))["source"]
    losses = losses.join(blocks["question_id"])
    counts = {"texts": blocks["question_id"].nunique(), "blocks": len(blocks), "tokens": int(losses["tokens"].sum())}
    return {"source": source, **counts, **loss_metrics(losses)}
