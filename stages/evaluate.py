"""Score base model, hard and tuned prompt on the test split: `python -m stages.evaluate`, or `dvc repro evaluate`."""

from softprompt import distributed
from softprompt.config import Params
from softprompt.config.stage import run_stage
from softprompt.distributed.launch import launched
from softprompt.runtime.outputs import output_file, verified, write_json
from softprompt.runtime.paths import ADAPTER, BASE_MODEL, GENERAL, PREPARED, RESULTS, TOKENIZED
from softprompt.runtime.progress import quiet_libraries


def main(params: Params) -> None:
    """Write metrics.json and headline.json, predictions.parquet and .jsonl (row by row), and virtual_tokens.json."""
    base, adapter = verified(BASE_MODEL, "fetch_model"), verified(ADAPTER, "train")
    tokenized, prepared = verified(TOKENIZED, "tokenize"), verified(PREPARED, "prepare")
    text = verified(GENERAL, "fetch_general") / "texts.parquet"
    import pandas as pd

    from softprompt.evaluation.headline import short_headline
    from softprompt.evaluation.metrics import metrics
    from softprompt.evaluation.predictions import predictions, score_answers, split_rows
    from softprompt.evaluation.regression import regression, text_blocks
    from softprompt.evaluation.sample import sampled_rows
    from softprompt.evaluation.slices import slices
    from softprompt.evaluation.variants import Variants
    from softprompt.evaluation.virtual_tokens import describe_virtual_tokens
    from softprompt.training.base import naming_parameter

    quiet_libraries()
    settings = params.evaluate
    rows = split_rows(tokenized / "test.arrow", prepared / "test.parquet")
    sample = rows.loc[sampled_rows(rows["example_id"].tolist(), settings.rows, settings.rows_seed)]
    variants = Variants.load(base, adapter, params)
    texts = pd.read_parquet(text)["text"].tolist()
    blocks = text_blocks(texts, variants.tokenizer, params.general) if texts else None
    # What can't be scored is refused before anything is.
    longest = max(rows["input_ids"].map(len).max(), 0 if blocks is None else params.general.block_tokens)
    variants.check_context(longest, sample["question_tokens"].max(), settings.generate.max_new_tokens)

    questions = [ids[:length] for ids, length in zip(sample["input_ids"], sample["question_tokens"], strict=True)]
    with naming_parameter("a smaller evaluate.batch_size"):
        losses = variants.losses(rows, settings.batch_size, "test rows")
        answers = variants.answers(questions, params)
        general = None if blocks is None else variants.losses(blocks, settings.batch_size, "out-of-domain text")
    if not distributed.is_first():  # it has scored and answered its share
        return
    scored, scores = score_answers(answers, sample, variants.tokenizer)
    of_rows = losses.join(rows[["question_id", "question_tokens", "source"]])
    result = {
        **metrics(of_rows),
        "general": None if blocks is None else regression(general, blocks, params.general.source),
        "answers": scores,
        "slices": slices(of_rows),
    }

    table = predictions(rows, losses, scored)
    with output_file(RESULTS / "predictions.parquet") as path:
        table.to_parquet(path, index=False)
    with output_file(RESULTS / "predictions.jsonl") as path:
        table.to_json(path, orient="records", lines=True, force_ascii=False)
    write_json(RESULTS / "virtual_tokens.json", describe_virtual_tokens(variants.model, variants.tokenizer))
    write_json(RESULTS / "headline.json", short_headline(result))
    write_json(RESULTS / "metrics.json", result)
    print(f"evaluate: {len(rows)} test rows, {len(sample)} of them answered: the tuned prompt {result['verdict']}")


if __name__ == "__main__":
    run_stage(launched(main, "stages.evaluate"))
