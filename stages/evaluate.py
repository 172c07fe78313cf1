"""Score the baselines and the tuned prompt on the test split: `python -m stages.evaluate`, or `dvc repro evaluate`."""

from typing import TYPE_CHECKING, Any

from softprompt import distributed
from softprompt.config import Params
from softprompt.config.stage import run_stage
from softprompt.distributed.launch import launched
from softprompt.runtime.libraries import load_libraries
from softprompt.runtime.outputs import output_file, verified, write_json
from softprompt.runtime.paths import ADAPTER, BASE_MODEL, GENERAL, PREPARED, RESULTS, SPLITS, TOKENIZED

if TYPE_CHECKING:
    import pandas as pd


def main(params: Params) -> None:
    """Write metrics.json and headline.json, predictions.parquet and .jsonl (row by row), and virtual_tokens.json."""
    base, adapter = verified(BASE_MODEL, "fetch_model"), verified(ADAPTER, "train")
    tokenized, prepared = verified(TOKENIZED, "tokenize"), verified(PREPARED, "prepare")
    text = verified(GENERAL, "fetch_general")
    load_libraries()
    from datasets import Dataset

    from softprompt.engine.packing import row_lengths
    from softprompt.evaluation.baselines import comparison, needs_of
    from softprompt.evaluation.headline import short_headline
    from softprompt.evaluation.metrics import metrics
    from softprompt.evaluation.predictions import predictions, score_answers, split_rows
    from softprompt.evaluation.regression import blocks_in, regression
    from softprompt.evaluation.sample import sampled_rows
    from softprompt.evaluation.slices import slices
    from softprompt.evaluation.variants import Variants
    from softprompt.evaluation.virtual_tokens import describe_virtual_tokens
    from softprompt.training.base import chosen_by_auto, naming_parameter

    settings = params.evaluate
    variants = Variants.load(base, adapter, params)
    splits = {split: Dataset.from_file(str(tokenized / f"{split}.arrow")) for split in SPLITS}
    tokens = splits["test"]
    rows = split_rows(tokens, prepared / "test.parquet", variants.template)
    places = sampled_rows(rows["example_id"].tolist(), settings.rows, settings.rows_seed)
    sample = rows.loc[places]
    blocks = blocks_in(text, variants.tokenizer, variants.model.frozen.config, params.general)
    # What can't be scored is refused before anything is.
    scored = [int(row_lengths(splits[split]).max()) for split in ("validation", "test")]
    longest = max(*scored, 0 if blocks is None else params.general.block_tokens)
    question = int(sample["question_tokens"].max())
    needs = needs_of(variants, tokenized, longest, question, settings.generate.max_new_tokens)
    generate = settings.generate.model_copy(update={"max_new_tokens": needs.answer})

    with naming_parameter("a smaller evaluate.batch_size"):
        compared = comparison(variants, splits, prepared, settings, places=places, needs=needs)
        variants = compared.variants
        losses = variants.losses(compared.test, settings.batch_size, "test rows")
        questions = {variant: given.questions(places) for variant, given in compared.test.items()}
        answers = variants.answers(questions, generate, settings.batch_size, params.seed)
        general = None
        if blocks is not None:
            of_blocks = variants.in_front_of(blocks.to_dict("records"))
            general = variants.losses(of_blocks, settings.batch_size, "out-of-domain text")
    if not distributed.is_first():  # it has scored and answered its share
        return
    answered, scores = score_answers(answers, sample, variants.template)
    of_rows = losses.join(rows[["question_id", "question_tokens", "source"]])
    result = {
        **metrics(of_rows),
        "prompts": compared.prompts,
        "general": None if blocks is None else regression(general, blocks, text),
        "answers": {"max_new_tokens": needs.answer, **scores},
        "slices": slices(of_rows),
    }
    if chosen := chosen_by_auto(variants.model.frozen, params, "evaluate"):
        result["chosen_by_auto"] = chosen
    virtual_tokens = describe_virtual_tokens(variants.model, variants.tokenizer)
    written = {"virtual_tokens": virtual_tokens, "headline": short_headline(result), "metrics": result}
    _write(predictions(rows, losses, answered), written)
    _tell(result, params)


def _write(table: "pd.DataFrame", values: dict[str, dict[str, Any]]) -> None:
    with output_file(RESULTS / "predictions.parquet") as path:
        table.to_parquet(path, index=False)
    with output_file(RESULTS / "predictions.jsonl") as path:
        table.to_json(path, orient="records", lines=True, force_ascii=False)
    for name, value in values.items():
        write_json(RESULTS / f"{name}.json", value)


def _tell(result: dict[str, Any], params: Params) -> None:
    from softprompt.evaluation.names import tuned_name

    tuned = tuned_name(result["prompts"]["tuned"]["tokens"])
    answered, general = result["answers"]["rows"], result["general"]
    _tell_if_fewer("evaluate.rows", params.evaluate.rows, answered, "rows of the test split are answered")
    if general:
        what = "blocks that the text makes are scored"
        _tell_if_fewer("general.blocks", params.general.blocks, general["blocks"], what)
    print(f"evaluate: {result['rows']} test rows, {answered} of them answered: the {tuned} {result['verdict']}")


def _tell_if_fewer(key: str, wanted: int | None, found: int, what: str) -> None:
    if wanted is not None and found < wanted:
        print(f"evaluate: {key} is {wanted}: all {found} {what}")


if __name__ == "__main__":
    run_stage(launched(main, "stages.evaluate"))
