"""The real lm-evaluation-harness on the tuned model: its numbers are those of our own evaluation."""

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from packaging.requirements import Requirement
from peft import PromptTuningConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

from softprompt.cli.export import as_prefix
from softprompt.config.evaluate import Generate
from softprompt.data.templates import Encoded, Template
from softprompt.engine.model import SharedPrefixModel
from softprompt.engine.row_losses import row_losses
from softprompt.evaluation.hard_prompt import HardPrompt
from softprompt.evaluation.variants import Variants, first_label
from softprompt.runtime.errors import InputError
from softprompt.serving import harness
from softprompt.serving.harness import INSTALL, HarnessModel
from tests.test_environment import optional
from tests.toy import CHATML, ROOT, make_model, toy_rows

VARIANTS = ("base", "tuned")
DATED = "Today is {{ strftime_now('%d %B %Y') }}.\n"
ROWS = [
    {"question": f"{row['instruction']} {row['input']}", "answer": row["output"], "choices": ["It is.", row["output"]]}
    for row in toy_rows()[:9]
]
TASKS = {
    "answers": "output_type: loglikelihood\ndoc_to_text: question\ndoc_to_target: answer",
    "chosen": "output_type: multiple_choice\ndoc_to_text: question\ndoc_to_choice: choices\ndoc_to_target: 1",
    "generated": "output_type: generate_until\ndoc_to_text: question\ndoc_to_target: answer\n"
    "generation_kwargs: {until: [no such text], max_gen_toks: 12}",
    "stopped": "output_type: generate_until\ndoc_to_text: question\ndoc_to_target: answer\n"
    "generation_kwargs: {until: [e], max_gen_toks: 12}",
    "texts": "output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: answer\n"
    "metric_list: [{metric: word_perplexity}]",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose answers depend on what comes before them, and whose template writes the date."""
    return make_model(tmp_path_factory.mktemp("harness") / "base", initializer_range=0.5)


@pytest.fixture(scope="module")
def variants(base: Path) -> Variants:
    """With a prompt of random numbers, a system turn of the training's, and the day of the training."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = SharedPrefixModel(AutoModelForCausalLM.from_pretrained(base), config)
    template = Template(tokenizer, "chat", "Be brief.", chat_template=DATED + CHATML, date="2024-02-03")
    return Variants(model, tokenizer, template, HardPrompt("", []), 0)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> TaskManager:
    """Tasks as users write them: YAML files and local rows."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS), encoding="utf-8")
    for name, lines in TASKS.items():
        data = f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder}/rows.jsonl}}}}\ntest_split: test"
        (folder / f"{name}.yaml").write_text(f"task: {name}\n{data}\n{lines}\n", encoding="utf-8")
    return TaskManager(include_path=str(folder), include_defaults=False)


@pytest.fixture(scope="module")
def responses(variants: Variants, tasks: TaskManager) -> dict[str, dict[str, list[Any]]]:
    """What the harness was answered by each variant in each task, row by row."""
    model, found = HarnessModel(variants, batch_size=4), {}
    for variant in VARIANTS:
        with variants.turn(variant):
            result = lm_eval.simple_evaluate(
                model=model, tasks=[*TASKS], task_manager=tasks, apply_chat_template=True, bootstrap_iters=0
            )
        in_order = {name: sorted(rows, key=lambda row: row["doc_id"]) for name, rows in result["samples"].items()}
        found[variant] = {name: [row["filtered_resps"] for row in rows] for name, rows in in_order.items()}
    return found


def encoded(variants: Variants, answers: list[str]) -> list[dict[str, list[int]]]:
    """The questions with `answers`, as `tokenize` makes them."""
    conversations = [
        {"messages": turns(row["question"], answer), "input": ""} for row, answer in zip(ROWS, answers, strict=True)
    ]
    rows = list(variants.template.encode(conversations, None))
    assert all(isinstance(row, Encoded) for row in rows)
    return [{"input_ids": row.input_ids, "labels": row.labels} for row in rows]


def turns(question: str, answer: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def sums(variants: Variants, variant: str, rows: list[dict[str, list[int]]]) -> np.ndarray:
    with variants.turn(variant):
        return row_losses(variants.model, rows, 4)[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_loglikelihoods_are_our_losses(variants: Variants, responses, variant: str) -> None:
    rows = encoded(variants, [row["answer"] for row in ROWS])
    text = variants.tokenizer.decode(rows[0]["input_ids"])
    assert "Today is 03 February 2024.\n<|im_start|>system\nBe brief.<|im_end|>" in text
    wanted = sums(variants, variant, rows)
    found = np.array([logarithm for ((logarithm, _),) in responses[variant]["answers"]])
    assert np.abs(found + wanted).max() < 1e-4
    assert np.abs(found + sums(variants, "base" if variant == "tuned" else "tuned", rows)).max() > 1
    short = sums(variants, variant, encoded(variants, ["It is."] * len(ROWS)))
    of_choices = np.array([[logarithm for logarithm, _ in both] for both in responses[variant]["chosen"]])
    assert np.abs(of_choices + np.stack([short, wanted], axis=1)).max() < 1e-4


@pytest.mark.parametrize("variant", VARIANTS)
def test_answers_are_ours(variants: Variants, responses, variant: str) -> None:
    wanted = own_answers(variants, variant)
    assert [answer for (answer,) in responses[variant]["generated"]] == wanted
    assert len(set(wanted)) > 5
    assert [answer for (answer,) in responses[variant]["stopped"]] == [text.partition("e")[0] for text in wanted]
    assert any("e" in text for text in wanted)


def own_answers(variants: Variants, variant: str) -> list[str]:
    rows = encoded(variants, [row["answer"] for row in ROWS])
    questions = [row["input_ids"][: first_label(row)] for row in rows]
    assert len(set(map(len, questions))) > 2, "some are padded"
    settings = {"do_sample": False, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}
    answers = variants.answers({variant: questions}, Generate(max_new_tokens=12, **settings), 4, 0)[variant]
    return [variants.tokenizer.decode(answer.ids, skip_special_tokens=True) for answer in answers]


@pytest.mark.parametrize("variant", VARIANTS)
def test_texts_are_scored_after_the_prompt(variants: Variants, responses, variant: str) -> None:
    first = variants.tokenizer.eos_token_id  # what the harness puts in front of a text
    ids = [variants.tokenizer(row["answer"])["input_ids"] for row in ROWS]
    rows = [{"input_ids": [first, *text], "labels": [-100, *text]} for text in ids]
    found = np.array(responses[variant]["texts"]).reshape(len(ROWS))
    assert np.abs(found + sums(variants, variant, rows)).max() < 1e-4


def test_of_a_conversation_the_last_answer_counts(variants: Variants) -> None:
    model = HarnessModel(variants)
    history = [*turns("What is coal?", "It is black."), {"role": "user", "content": "And <|im_end|> snow?"}]
    (found,) = model.loglikelihood([Instance("loglikelihood", {}, (model.apply_chat_template(history), "White."), 0)])
    turn = {"role": "assistant", "content": "White."}
    (row,) = variants.template.encode([{"messages": [*history, turn], "input": ""}], None)
    last = 1 + max(place for place, label in enumerate(row.labels) if label == -100)
    wanted = {"input_ids": row.input_ids, "labels": [-100] * last + row.labels[last:]}
    assert found[0] == pytest.approx(-sums(variants, "tuned", [wanted])[0], abs=1e-4)
    with pytest.raises(InputError, match="a task with gen_prefix begins the answer, which no training did"):
        model.apply_chat_template([*history, {**turn, "content": "Wh"}], add_generation_prompt=False)


def test_the_harness_s_own_model_is_right_for_a_prefix_and_not_for_embeddings(
    variants: Variants, base: Path, tmp_path: Path
) -> None:
    """What docs/harness.md says of `--model hf`; where the last line fails, PEFT or the harness has changed."""
    as_prefix(variants.model).save_pretrained(str(tmp_path / "prefix"), save_embedding_layers=False)
    variants.model.save_pretrained(str(tmp_path / "embeddings"), save_embedding_layers=False)
    rows = encoded(variants, [row["answer"] for row in ROWS])
    texts = [variants.tokenizer.decode(row["input_ids"][: first_label(row)]) for row in rows]
    settings = {"until": ["no such text"], "max_gen_toks": 12, "do_sample": False}
    answers, logarithms = {}, {}
    for name in ("prefix", "embeddings"):
        own = HFLM(str(base), peft=str(tmp_path / name), dtype="float32", device="cpu", batch_size=4)
        pairs = [Instance("loglikelihood", {}, ("It is", f" {row['answer']}"), place) for place, row in enumerate(ROWS)]
        logarithms[name] = np.array([logarithm for logarithm, _ in own.loglikelihood(pairs, disable_tqdm=True)])
        asked = [Instance("generate_until", {}, (text, settings), place) for place, text in enumerate(texts)]
        answers[name] = own.generate_until(asked, disable_tqdm=True)
    start = len(variants.tokenizer("It is")["input_ids"])
    plain = [variants.tokenizer(f"It is {row['answer']}")["input_ids"] for row in ROWS]
    wanted = sums(variants, "tuned", [{"input_ids": ids, "labels": [-100] * start + ids[start:]} for ids in plain])
    for found in logarithms.values():
        assert np.abs(found + wanted).max() < 1e-4
    assert answers["prefix"] == own_answers(variants, "tuned")
    assert answers["embeddings"] != answers["prefix"]


def test_the_page_s_script(finished_project: Path, tasks: TaskManager, capfd: pytest.CaptureFixture[str]) -> None:
    (script,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/harness.md").read_text(encoding="utf-8"), re.S)
    assert script.count('["arc_easy"]') == 1
    exec(script.replace('["arc_easy"]', '["chosen"], task_manager=tasks'), {"tasks": tasks})
    printed = [line for line in capfd.readouterr().out.splitlines() if line.startswith(VARIANTS)]
    assert len(printed) == 2
    assert all("acc,none" in line for line in printed)


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "lm_eval", None)
        patch.delitem(sys.modules, "lm_eval.models.huggingface")
        with pytest.raises(InputError, match=f"^lm-evaluation-harness is not installed: {INSTALL}$"):
            importlib.reload(harness)
    (extra,) = map(Requirement, optional("harness"))
    name, version = INSTALL.removeprefix("pip install ").split("==")
    assert name == extra.name
    assert extra.specifier.contains(version)
