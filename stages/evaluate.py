"""Score bare model, hard and tuned prompt on the test split: `python -m stages.evaluate`, or `dvc repro evaluate`."""

import pandas as pd

from stages.params import Params
from stages.workspace.errors import InputError
from stages.workspace.guard import run_stage
from stages.workspace.outputs import output_file, verified, write_json
from stages.workspace.paths import ADAPTER, BASE_MODEL, RESULTS, TOKENIZED
from stages.workspace.progress import quiet_libraries


def main(params: Params) -> None:
    """Write results/metrics.json and, row by row, results/losses.parquet."""
    base, tokenized = verified(BASE_MODEL, "fetch_model"), verified(TOKENIZED, "tokenize")
    adapter = verified(ADAPTER, "train")
    from datasets import Dataset
    from peft import PeftConfig
    from transformers import AutoTokenizer

    from stages.engine.model import SharedPrefixModel
    from stages.scoring.batches import row_lengths
    from stages.scoring.losses import row_losses, with_hard_prompt
    from stages.scoring.metrics import metrics
    from stages.tuning.base import check_context, load_base_model

    quiet_libraries()
    test = Dataset.from_file(str(tokenized / "test.arrow"))
    rows = list(test.select_columns(["input_ids", "labels"]))
    model = load_base_model(base, params)
    text = params.evaluate.hard_prompt
    hard_prompt = AutoTokenizer.from_pretrained(base)(text, add_special_tokens=False)["input_ids"]
    if not hard_prompt:
        raise InputError(f"evaluate.hard_prompt: {text!r} has no token in this model's vocabulary")
    virtual = PeftConfig.from_pretrained(str(adapter)).num_virtual_tokens
    longest = int(row_lengths(test).max())
    check_context(model, len(hard_prompt), longest, "evaluate.hard_prompt: a text")
    check_context(model, virtual, longest, "train.num_virtual_tokens: a soft prompt")

    size = params.evaluate.batch_size
    losses = pd.DataFrame({"example_id": test["example_id"], "question_id": test["question_id"]})
    losses["bare"], losses["tokens"] = row_losses(model, rows, size, "bare model")
    losses["hard"], _ = row_losses(model, with_hard_prompt(rows, hard_prompt), size, "hard prompt")
    # Last: the bare model is then beyond doubt untouched.
    losses["tuned"], _ = row_losses(SharedPrefixModel.from_pretrained(model, str(adapter)), rows, size, "tuned prompt")

    result = metrics(losses)
    with output_file(RESULTS / "losses.parquet") as path:
        losses.to_parquet(path, index=False)
    write_json(RESULTS / "metrics.json", result)
    print(f"evaluate: {result['rows']} test rows: the tuned prompt {result['verdict']}")


if __name__ == "__main__":
    run_stage(main)
