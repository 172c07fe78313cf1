"""Score base model, hard and tuned prompt on the test split: `python -m stages.evaluate`, or `dvc repro evaluate`."""

import json
from typing import TYPE_CHECKING

from softprompt import distributed
from softprompt.config import Params
from softprompt.config.stage import run_stage
from softprompt.distributed.launch import launched
from softprompt.runtime.outputs import output_file, verified, write_json
from softprompt.runtime.paths import ADAPTER, BASE_MODEL, GENERAL, PREPARED, RESULTS, TOKENIZED
from softprompt.runtime.progress import quiet_libraries

if TYPE_CHECKING:
    import pandas as pd


def main(params: Params) -> None:
    """Write metrics.json and headline.json, predictions.parquet and .jsonl (row by row), and virtual_tokens.json."""
    base, adapter = verified(BASE_MODEL, "fetch_model"), verified(ADAPTER, "train")
    tokenized, prepared = verified(TOKENIZED, "tokenize"), verified(PREPARED, "prepare")
    text = verified(GENERAL, "fetch_general")
    import pandas as pd
    from datasets import Dataset

    from softprompt.engine.packing import row_lengths
    from softprompt.evaluation.headline import short_headline
    from softprompt.evaluation.metrics import metrics
    from softprompt.evaluation.predictions import predictions, score_answers, split_rows
    from softprompt.evaluation.regression import regression, text_blocks
    from softprompt.evaluation.sample import longest_answer, sampled_rows
    from softprompt.evaluation.slices import slices
    from softprompt.evaluation.variants import Variants
    from softprompt.evaluation.virtual_tokens import describe_virtual_tokens
    from softprompt.training.base import chosen_by_auto, naming_parameter

    quiet_libraries()
    settings = params.evaluate
    variants = Variants.load(base, adapter, params)
    tokens = Dataset.from_file(str(tokenized / "test.arrow"))
    rows = split_rows(tokens, prepared / "test.parquet", variants.template)
    places = sampled_rows(rows["example_id"].tolist(), settings.rows, settings.rows_seed)
    sample, lengths = rows.loc[places], rows["question_tokens"].loc[places]
    texts = pd.read_parquet(text / "texts.parquet")["text"].tolist()
    blocks = text_blocks(texts, variants.tokenizer, variants.model.frozen.config, params.general) if texts else None
    # What can't be scored is refused before anything is.
    longest = max(int(row_lengths(tokens).max()), 0 if blocks is None else params.general.block_tokens)
    question = int(lengths.max())
    new_tokens = settings.generate.max_new_tokens or min(longest_answer(tokenized), variants.room_after(question))
    variants.check_lengths(longest_row=longest, longest_question=question, new_tokens=new_tokens)

    questions = [ids[:length] for ids, length in zip(tokens.select(places)["input_ids"], lengths, strict=True)]
    with naming_parameter("a smaller evaluate.batch_size"):
        losses = variants.losses(tokens, settings.batch_size, "test rows")
        generate = settings.generate.model_copy(update={"max_new_tokens": new_tokens})
        answers = variants.answers(questions, generate, settings.batch_size, params.seed)
        general = (
            None
            if blocks is None
            else variants.losses(blocks.to_dict("records"), settings.batch_size, "out-of-domain text")
        )
    if not distributed.is_first():  # it has scored and answered its share
        return
    scored, scores = score_answers(answers, sample, variants.template)
    source = json.loads((text / "source.json").read_text(encoding="utf-8"))["source"]
    of_rows = losses.join(rows[["question_id", "question_tokens", "source"]])
    result = {
        **metrics(of_rows),
        "general": None if blocks is None else {"source": source, **regression(general, blocks)},
        "answers": {"max_new_tokens": new_tokens, **scores},
        "slices": slices(of_rows),
    }
    if chosen := chosen_by_auto(variants.model.frozen, params, "evaluate"):
        result["chosen_by_auto"] = chosen

    _write_rows(predictions(rows, losses, scored))
    write_json(RESULTS / "virtual_tokens.json", describe_virtual_tokens(variants.model, variants.tokenizer))
    write_json(RESULTS / "headline.json", short_headline(result))
    write_json(RESULTS / "metrics.json", result)
    _tell_if_fewer("evaluate.rows", settings.rows, len(sample), "rows of the test split are answered")
    if blocks is not None:
        _tell_if_fewer("general.blocks", params.general.blocks, len(blocks), "blocks that the text makes are scored")
    print(f"evaluate: {len(rows)} test rows, {len(sample)} of them answered: the tuned prompt {result['verdict']}")


def _write_rows(table: "pd.DataFrame") -> None:
    with output_file(RESULTS / "predictions.parquet") as path:
        table.to_parquet(path, index=False)
    with output_file(RESULTS / "predictions.jsonl") as path:
        table.to_json(path, orient="records", lines=True, force_ascii=False)


def _tell_if_fewer(key: str, wanted: int | None, found: int, what: str) -> None:
    if wanted is not None and found < wanted:
        print(f"evaluate: {key} is {wanted}: all {found} {what}")


if __name__ == "__main__":
    run_stage(launched(main, "stages.evaluate"))
