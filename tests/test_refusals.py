"""Bad input to every stage: one clear line, nothing half written. What params.yaml alone can say is in tests/params."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import Refusal, Run
from tests.toy import make_model, toy_rows, write_params, write_rows


def test_no_such_model(refusal: Refusal) -> None:
    message = refusal("fetch_model", **{"model.source": "toy/nothing"})
    assert message == (
        "error: model.source: 'toy/nothing': no such file or folder (relative paths start at the repository's root; on "
        "the Hugging Face hub: hf://toy/nothing)"
    )


def test_a_folder_that_is_no_model(refusal: Refusal, project: Path) -> None:
    (project / "toy/empty").mkdir()
    assert "not a model: no .safetensors" in refusal("fetch_model", **{"model.source": "toy/empty"})
    shutil.copy("toy/model/model.safetensors", "toy/empty")
    assert "not a model: no config.json" in refusal("fetch_model")
    shutil.copy("toy/model/config.json", "toy/empty")
    assert "not a model: no tokenizer" in refusal("fetch_model")


def test_pickle_weights_only(refusal: Refusal) -> None:
    weights = Path("toy/model/model.safetensors")
    weights.rename("toy/model/pytorch_model.bin")
    assert "pickle weights only, which can run code" in refusal("fetch_model")


def test_weights_that_are_no_safetensors(refusal: Refusal) -> None:
    Path("toy/model/model.safetensors").write_bytes(b"no weights at all")
    assert "not a model that transformers can load" in refusal("fetch_model")


def test_weights_of_another_model(refusal: Refusal, project: Path) -> None:
    """transformers would make up the missing layer at random."""
    make_model(project / "toy/deeper", num_hidden_layers=3)
    shutil.copy("toy/deeper/config.json", "toy/model/config.json")
    assert "weights are missing from the safetensors files, the first is model.layers.2." in refusal("fetch_model")


def test_an_encoder(refusal: Refusal) -> None:
    path = Path("toy/model/config.json")
    path.write_text(json.dumps({"model_type": "vit"}), encoding="utf-8")
    assert "a vit model, not a causal language model" in refusal("fetch_model")


def test_a_missing_shard(refusal: Refusal) -> None:
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}
    Path("toy/model/model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert "model-00002-of-00002.safetensors missing, which model.safetensors.index.json names" in refusal(
        "fetch_model"
    )


def test_a_folder_that_is_a_file(refusal: Refusal) -> None:
    Path("data").write_text("", encoding="utf-8")
    assert "can't read or write" in refusal("fetch_data")


@pytest.mark.parametrize("source", ["~nobody-of-this-name/rows.json", "x" * 5000])
def test_a_path_that_can_not_be(refusal: Refusal, source: str) -> None:
    assert "error: data.source: " in refusal("fetch_data", **{"data.source": source})


def test_a_loss_that_is_no_number_leaves_no_curves(refusal: Refusal, run: Run) -> None:
    run("fetch_model", "fetch_data", "prepare", "tokenize")
    changes = {"train.learning_rate": 1e6, "train.warmup_ratio": 0.0, "model.dtype": "float16"}
    assert "the loss of step 2 is nan" in refusal("train", **changes)


def test_a_soft_prompt_beyond_the_context_of_the_test_rows(refusal: Refusal, run: Run) -> None:
    """The adapter was tuned with shorter rows than the ones that it is scored on."""
    run(*BEFORE_EVALUATE)
    long = [{**row, "output": row["output"] * 60} for row in toy_rows()]
    write_rows(Path(), long)
    write_params(Path(), **{"tokenize.max_length": 510})
    run("fetch_data", "prepare", "tokenize")
    assert "train.num_virtual_tokens: a soft prompt of 4 tokens" in refusal("evaluate", **{"evaluate.hard_prompt": "a"})


BEFORE_EVALUATE = ("fetch_model", "fetch_data", "fetch_general", "prepare", "tokenize", "train")


def test_what_evaluate_can_not_score(refusal: Refusal, run: Run) -> None:
    """Each with one line, before anything is scored."""
    run(*BEFORE_EVALUATE)
    message = refusal("evaluate", **{"general.block_tokens": 10_000})
    assert "general.block_tokens: no text of general.source has 10000 tokens; allowed: fewer" in message
    message = refusal("evaluate", **{"general.block_tokens": 16, "evaluate.generate.max_new_tokens": 500})
    assert "evaluate.generate.max_new_tokens: an answer of 500 tokens after" in message
    assert "the model's context is 512 tokens" in message


def test_an_adapter_of_another_model(refusal: Refusal, run: Run, project: Path) -> None:
    run(*BEFORE_EVALUATE)
    make_model(project / "toy/model", hidden_size=48)
    run("fetch_model")
    message = refusal("evaluate")
    assert "models/adapter was tuned on another model: on toy/model with the hash" in message
    assert "dvc repro train" in message


def test_general_text(refusal: Refusal, run: Run, project: Path) -> None:
    assert "no column 'text' (general.column); the columns are instruction, input, output" in refusal(
        "fetch_general", **{"general.source": "toy/rows.json"}
    )
    (project / "toy/rows.yml").write_text("a: b", encoding="utf-8")
    message = refusal("fetch_general", **{"general.source": "toy/rows.yml"})
    assert "found .yml; allowed extensions: .txt, .csv" in message
    (project / "toy/empty.txt").write_text("\n\n  \n", encoding="utf-8")
    assert "there is no text in it" in refusal("fetch_general", **{"general.source": "toy/empty.txt"})


def test_a_file_that_is_no_gguf(refusal: Refusal) -> None:
    Path("toy/broken.gguf").write_bytes(b"no GGUF")
    assert "not a GGUF file" in refusal("fetch_model", **{"model.source": "toy/broken.gguf"})


def test_checksums(refusal: Refusal) -> None:
    assert "error: model.sha256: " in refusal("fetch_model", **{"model.sha256": "0" * 64})
    assert "error: data.sha256: " in refusal("fetch_data", **{"model.sha256": None, "data.sha256": "0" * 64})


def test_an_empty_data_set(refusal: Refusal, project: Path) -> None:
    write_rows(project, [])
    assert "the data set has no rows" in refusal("fetch_data")


def test_bad_rows_are_all_named_at_once(refusal: Refusal, run: Run) -> None:
    Path("toy/rows.json").write_text('[{"instruction": "a", "output": 1}, [], {"instruction": "b"}]', encoding="utf-8")
    run("fetch_data")
    assert refusal("prepare") == (
        "error: prepare: 3 of 3 rows can't be used, and data.max_bad_rows is 0.1: 1 not text (rows.json, row 1): "
        "column 'output' holds 1, not text; 1 not an object (rows.json, row 2): not an object with named columns; "
        "1 without output (rows.json, row 3). Mend them, map other columns (data.columns), or allow more"
    )


def test_a_split_that_is_not_there(refusal: Refusal) -> None:
    assert "error: data.split: 'test': no split test" in refusal("fetch_data", **{"data.split": "test"})


def test_everything_filtered_out(refusal: Refusal, run: Run, project: Path) -> None:
    write_rows(project, [{"instruction": " ", "output": "a"}, {"instruction": "b", "output": ""}])
    run("fetch_data")
    message = refusal("prepare")
    assert "2 of 2 rows can't be used" in message
    write_params(project, **{"data.max_bad_rows": 1.0})
    assert "none of the 2 rows is left (1 without instruction, 1 without output" in refusal("prepare")


def test_too_few_questions_to_split(refusal: Refusal, run: Run, project: Path) -> None:
    write_rows(project, [{"instruction": "a", "output": "b"}])
    run("fetch_data")
    assert "the 1 distinct questions leave no row for" in refusal("prepare")


def test_max_length_too_small_for_any_question(refusal: Refusal, run: Run) -> None:
    run("fetch_model", "fetch_data", "prepare")
    message = refusal("tokenize", **{"tokenize.max_length": 5})
    assert "tokenize.max_length: 5 is too small for every question of train.parquet: the shortest takes" in message


def test_a_model_without_a_chat_template(refusal: Refusal, run: Run, project: Path) -> None:
    Path("toy/model/chat_template.jinja").unlink()
    run("fetch_model", "fetch_data", "prepare")
    assert "tokenize.template: the model has no chat template" in refusal("tokenize")
    write_params(project, **{"tokenize.template": "Q: {instruction} A: "})
    run("tokenize")


def test_a_prompt_beyond_the_context(refusal: Refusal, run: Run) -> None:
    run("fetch_model", "fetch_data", "prepare", "tokenize")
    assert "train.num_virtual_tokens: a soft prompt of 500 tokens" in refusal(
        "train", **{"train.num_virtual_tokens": 500}
    )


def lengthen(split: str) -> None:
    """Write the toy's rows anew, those of one split with answers too long for any context."""
    of_split = {row["messages"][0]["content"] for row in pq.read_table(f"data/prepared/{split}.parquet").to_pylist()}
    rows = toy_rows()
    for row in rows:
        if "\n".join(filter(None, (row["instruction"], row["input"]))) in of_split:
            row["output"] *= 60
    write_rows(Path(), rows)


def test_what_evaluate_would_refuse_is_refused_before_the_training(refusal: Refusal, run: Run, project: Path) -> None:
    run("fetch_model", "fetch_data", "prepare", "tokenize")
    usual = {"evaluate.hard_prompt": "Be brief.", "evaluate.generate.max_new_tokens": 8, "general.block_tokens": 16}
    for key, value, expected in (
        ("evaluate.hard_prompt", "fog " * 500, "evaluate.hard_prompt: a text of"),
        ("evaluate.generate.max_new_tokens", 508, "evaluate.generate.max_new_tokens: an answer of 508 tokens after"),
        ("general.block_tokens", 510, "train.num_virtual_tokens: a soft prompt of 4 tokens and a row of 510 make 514"),
    ):
        assert expected in refusal("train", **{**usual, key: value})
    lengthen("test")
    write_params(project, **usual, **{"tokenize.max_length": 510})
    run("fetch_data", "prepare", "tokenize")
    message = refusal("train")
    assert "a soft prompt of 4 tokens and a row of 510 make 514, but the model's context is 512 tokens" in message
    assert "lower it, or tokenize.max_length to 508" in message


@pytest.mark.parametrize(
    ("stage", "missing", "maker"),
    [
        ("prepare", "data/raw", "fetch_data"),
        ("tokenize", "models/base", "fetch_model"),
        ("train", "models/base", "fetch_model"),
        ("evaluate", "models/base", "fetch_model"),
    ],
)
def test_a_missing_artefact_names_its_maker(refusal: Refusal, stage: str, missing: str, maker: str) -> None:
    expected = f"error: {missing} is missing or incomplete; make it with: dvc repro {maker}"
    assert refusal(stage) == expected


def test_a_damaged_artefact_is_not_used(refusal: Refusal, run: Run) -> None:
    run("fetch_model", "fetch_data", "prepare", "tokenize")
    path = Path("models/base/model.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "models/base/model.safetensors is damaged" in refusal("train")


def test_a_hard_prompt_beyond_the_context(refusal: Refusal, run: Run) -> None:
    run(*BEFORE_EVALUATE)
    assert "evaluate.hard_prompt: a text of" in refusal("evaluate", **{"evaluate.hard_prompt": "fog " * 500})
    # Only a validation row is too long behind it; the soft prompt, which is shorter, has room.
    lengthen("validation")
    write_params(Path(), **{"tokenize.max_length": 500})
    run("fetch_data", "prepare", "tokenize")
    message = refusal("evaluate", **{"evaluate.hard_prompt": "fog " * 20})
    assert "evaluate.hard_prompt: a text of" in message
    assert "and a row of 500 make" in message
