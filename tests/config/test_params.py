"""The schema, the file and the messages."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from softprompt.config import Params, load_params
from softprompt.config.faults import RENAMED, known_keys
from softprompt.runtime.errors import InputError
from tests.toy import ROOT, write_params


def refused(folder: Path, **changes: Any) -> str:
    write_params(folder, **changes)
    with pytest.raises(InputError) as error:
        load_params(folder / "params.yaml")
    return str(error.value)


def dotted(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict) and key != "sha256":  # a mapping of checksums is one value
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def test_the_shipped_file_is_valid_and_holds_exactly_the_schemas_keys() -> None:
    load_params(ROOT / "params.yaml")
    found = set(dotted(YAML(typ="safe").load(ROOT / "params.yaml")))
    assert found == {key for key, _ in known_keys(Params)}


def test_every_key_has_a_comment_on_its_line_or_above_it() -> None:
    lines = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()
    keys = {key.rpartition(".")[2] for key, _ in known_keys(Params)}
    for number, line in enumerate(lines):
        match = re.match(r" *(\w+):(.*)", line)
        # The three columns are one mapping: the comment on `columns:` speaks of all.
        if match and match[1] in keys and not line.startswith("    "):
            assert " # " in match[2] or lines[number - 1].strip().startswith("#"), f"no comment: {line}"


def test_allowed_values_in_the_comments_are_those_of_the_schema() -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    for key, field in known_keys(Params):
        members = getattr(field.annotation, "__args__", ())
        values = [value for member in members for value in getattr(member, "__args__", (member,))]
        for value in values:
            if isinstance(value, str):
                name = key.rpartition(".")[2]
                found = re.search(rf"((?:^ *#.*\n)*)^ *{name}:.*?(#.*)?$", text, re.MULTILINE)
                assert re.search(rf"\b{value}\b", f"{found[1]}{found[2]}"), f"{key}: {value} is not in its comment"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"train.learning_rat": 0.1}, "train.learning_rat: unknown key; did you mean train.learning_rate?"),
        ({"train.max_length": 5}, "train.max_length: unknown key; did you mean tokenize.max_length?"),
        (
            {"prepare.number_of_rows": 5},
            "prepare.number_of_rows: unknown key; known here: prepare.validation, prepare.test",
        ),
        ({"treads": 2}, "treads: unknown key; did you mean threads?"),
        ({"trains": {}}, "trains: unknown key; did you mean train?"),
        ({"zzz": 2}, "zzz: unknown key; known here: model, data, "),
        ({"train.batch_size": "16"}, 'train.batch_size: "16" is not allowed; allowed: a whole number'),
        ({"train.batch_size": 1.5}, "train.batch_size: 1.5 is not allowed; allowed: a whole number"),
        ({"train.batch_size": True}, "train.batch_size: true is not allowed; allowed: a whole number"),
        ({"train.batch_size": None}, "train.batch_size: null is not allowed; allowed: a whole number"),
        ({"train.batch_size": 10**19}, "is not allowed; allowed: at most 2147483647"),
        ({"threads": 10**6}, "threads: 1000000 is not allowed; allowed: at most 1024"),
        ({"train.learning_rate": 1e300}, "allowed: at most 1000000, or null"),
        ({"evaluate.hard_prompt": "a\ud800"}, "allowed: text without unpaired surrogates"),
        ({"evaluate.hard_prompt": ["a", "b\ud800"]}, "allowed: text without unpaired surrogates"),
        (
            {"data.columns.instruction": "text", "data.columns.output": "text"},
            'data.columns.output: "text" is not allowed; allowed: a column that is not named twice',
        ),
        (
            {"data.columns.output": "answer", "data.columns.messages": "turns"},
            'data.columns.messages: "turns" is not allowed; allowed: null where instruction, input or output is named',
        ),
        ({"model.revision": "a b"}, 'model.revision: "a b" is not allowed; allowed: a commit, a tag or a branch'),
        ({"tokenize.template": "{instruction!r}"}, "{instruction} takes no format and no conversion"),
        ({"train.batch_size": 0}, "train.batch_size: 0 is not allowed; allowed: at least 1"),
        ({"train.learning_rate": "fast"}, "allowed: a number, or null"),
        ({"train.learning_rate": -1.0}, "train.learning_rate: -1.0 is not allowed; allowed: above 0, or null"),
        ({"train.learning_rate": float("nan")}, "train.learning_rate: NaN is not allowed; allowed: a finite number"),
        (
            {"train.init": "none"},
            'train.init: "none" is not allowed; allowed: random, vocabulary, text, demonstrations or zero, or null',
        ),
        (
            {"train.init": "zero"},
            'train.init: "zero" is not allowed; allowed: null or text, demonstrations, vocabulary, random, where',
        ),
        (
            {"train.method": "p_tuning", "train.init": "text"},
            'train.init: "text" is not allowed; allowed: null or random, where train.method is p_tuning',
        ),
        (
            {"train.init": "text", "train.init_text": None},
            "train.init_text: null is not allowed; allowed: a text where train.init is text",
        ),
        ({"train.method": "prompt_tuning", "train.init_text": " "}, "allowed: a text where train.init is text"),
        (
            {"train.method": "lora", "train.residual": True},
            "train.residual: true is not allowed; allowed: false where train.method is lora; it is of prompt_tuning",
        ),
        (
            {"train.method": "p_tuning", "train.keys_lr_ratio": 0.5},
            "train.keys_lr_ratio: 0.5 is not allowed; allowed: 1.0 where train.method is p_tuning; it is of prefix",
        ),
        ({"train.num_train_epochs": None}, "train.num_train_epochs: null is not allowed; allowed: a number"),
        (
            {"evaluate.generate.temperature": 1e-40},
            "evaluate.generate.temperature: 1e-40 is not allowed; allowed: at least 1e-06",
        ),
        ({"runtime.trackers": "wandb"}, 'runtime.trackers: "wandb" is not allowed; allowed: a list in brackets, […]'),
        ({"train.num_train_epochs": 0.0}, "train.num_train_epochs: 0.0 is not allowed; allowed: above 0"),
        ({"train.max_steps": 0}, "train.max_steps: 0 is not allowed; allowed: at least 1, or null"),
        ({"prepare.test": 0.9}, "prepare.test: 0.9 is not allowed; allowed: prepare.validation + prepare.test below 1"),
        ({"prepare.test": 1.0}, "prepare.test: 1.0 is not allowed; allowed: below 1"),
        ({"model": 3}, "model: 3 is not allowed; allowed: a section with keys of its own"),
        (
            {"model.sha256": "abc"},
            'model.sha256: "abc" is not allowed; allowed: 64 hexadecimal digits in lower case, a mapping from sources',
        ),
        (
            {"data.sha256": {"hf://a/b": "0" * 64, "hf://a/c": "0" * 63}},
            f"allowed: 64 hexadecimal digits in lower case of each source, and 'hf://a/c' has '{'0' * 63}'",
        ),
        (
            {"general.sha256": {"hf://a/b": None}},
            "64 hexadecimal digits in lower case of each source, and 'hf://a/b' has",
        ),
        ({"general.sha256": {3: "0" * 64}}, "64 hexadecimal digits in lower case of each source, and 3 has"),
        ({"model.sha256": ["0" * 64]}, "allowed: 64 hexadecimal digits in lower case, a mapping from sources"),
        ({"tokenize.workers": 4}, "tokenize.workers: now runtime.workers; move its value there"),
        ({"train.save_every": 4}, "train.save_every: now runtime.save_steps; move its value there"),
        ({"evaluate.require": True}, "evaluate.require: now runtime.require; move its value there"),
        ({"model.source": ""}, 'model.source: "" is not allowed; allowed: a text that is not empty'),
        ({"tokenize.template": "Q: {question} A:"}, "{question} is not a placeholder"),
        ({"tokenize.template": "Q: {instruction A:"}, "tokenize.template: "),
        ({"tokenize.template": "Q: A:"}, "text with {instruction} and, if wanted, {input}"),
        ({"tokenize.template": "Q: {instruction}", "tokenize.system": "Be nice."}, "tokenize.system: "),
        *(
            (
                {"evaluate.hard_prompt": wrong},
                f"{json.dumps(wrong)} is not allowed; allowed: a text, or a list of texts",
            )
            for wrong in (" ", ["Be brief.", " "], [], [5], 5, None)
        ),
        *(
            (
                {"evaluate.hard_prompt": wrong},
                "allowed: a text, or a list of texts: text without a backslash",
            )
            for wrong in (r"a\n b", [r"a\n b"])
        ),
        ({"evaluate.few_shot": -1}, "evaluate.few_shot: -1 is not allowed; allowed: at least 0"),
        (
            {"tokenize.template": r"Q: {instruction}\n\nA: "},
            r"""text without a backslash followed by n, which is no line""",
        ),
        ({"tokenize.system": r"Be brief.\nBe kind."}, r"""double quotes ("\n"), the shell as $'…\n…'"""),
        ({"train.init_text": r"Be brief.\nBe kind."}, "train.init_text: "),
        (
            {"tokenize.date": "31.1.2026"},
            'tokenize.date: "31.1.2026" is not allowed; allowed: a date in quotes, such as',
        ),
        ({"tokenize.date": date(2026, 1, 31)}, "2026-01-31 is not allowed; allowed: a date in quotes, such as"),
        (
            {"tokenize.template": "Q: {instruction}", "tokenize.chat_template": "models/local/a.jinja"},
            "allowed: null where tokenize.template is literal text",
        ),
        (
            {"tokenize.template": "Q: {instruction}", "tokenize.chat_template_kwargs": {"enable_thinking": False}},
            "allowed: null where tokenize.template is literal text",
        ),
        ({"tokenize.chat_template_kwargs": {"tools": []}}, "such as enable_thinking: false; not tools"),
        ({"tokenize.chat_template_kwargs": {"a": float("nan")}}, "tokenize.chat_template_kwargs: "),
        ({"tokenize.chat_template_kwargs": {3: "a"}}, "tokenize.chat_template_kwargs: "),
        ({"tokenize.fold_system": "yes"}, "tokenize.fold_system: "),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    message = refused(tmp_path, **changes)
    assert expected in message
    assert len(message.splitlines()) == 1


def test_what_was_renamed_is_there_under_its_new_name() -> None:
    keys = {key for key, _ in known_keys(Params)}
    assert not keys & RENAMED.keys()
    assert keys >= set(RENAMED.values())
    page = (ROOT / "docs/params.md").read_text(encoding="utf-8").split("## Earlier names")[1]
    assert dict(re.findall(r"\| `([\w.]+)`[^|]*\| `([\w.]+)`", page)) == RENAMED


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_name_is_refused_with_the_new_one(tmp_path: Path, old: str) -> None:
    assert f"params.yaml: {old}: now {RENAMED[old]}; move its value there" in refused(tmp_path, **{old: 1})


def test_lengths_may_be_left_to_the_data_and_steps_go_with_epochs(tmp_path: Path) -> None:
    nulls = ("tokenize.max_length", "evaluate.generate.max_new_tokens", "train.max_steps", "evaluate.rows")
    write_params(tmp_path, **dict.fromkeys(nulls))
    load_params(tmp_path / "params.yaml")
    write_params(tmp_path, **{"train.num_train_epochs": 2.5, "train.max_steps": 5})
    load_params(tmp_path / "params.yaml")


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    message = refused(tmp_path, **{"train.batch_size": 0, "train.init": "zero", "prepare.tset": 0.1, "threads": "two"})
    keys = [line.split(": ")[1] for line in message.splitlines()]
    assert sorted(keys) == ["prepare.tset", "threads", "train.batch_size", "train.init"]


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(re.sub(r"\n  init_text:.*", "", text), encoding="utf-8")
    with pytest.raises(InputError, match=r"train\.init_text: missing"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed: [1", "not valid YAML"),
        ("seed: 1\nseed: 2\n", 'line 2: not valid YAML: found duplicate key "seed"'),
        ("", "not a mapping of keys and sections"),
        ("- 1\n", "not a mapping of keys and sections"),
        ("seed: 2001-13-45", "not valid YAML: month must be in 1..12"),
        (f"seed: {'9' * 5000}", "not valid YAML: Exceeds the limit"),
        (f"seed: {'[' * 3000}", "not valid YAML: "),
        ("seed: &a [*a]", "seed: "),
        ("1: 3", "1: unknown key"),
        ('"a\\nb\\x1b": 3', r"a b\x1b: unknown key"),
    ],
)
def test_a_file_that_is_no_mapping_of_sections(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        load_params(tmp_path / "params.yaml")
    assert expected in str(error.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"git show HEAD:params\.yaml shows the committed one"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("stage", ["fetch_model", "fetch_data", "prepare", "tokenize", "train", "evaluate"])
def test_params_are_checked_before_torch_is_imported(stage: str) -> None:
    code = (
        f"import sys, stages.{stage}, softprompt.config; softprompt.config.load_params(); print('torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "False\n"


def test_a_number_as_dvc_writes_it(tmp_path: Path) -> None:
    """`-S train.learning_rate=1e-5` writes 1e-05, which YAML 1.1 reads as text."""
    write_params(tmp_path)
    path = tmp_path / "params.yaml"
    text = re.sub(r"learning_rate:.*", "learning_rate: 1e-05", path.read_text(encoding="utf-8"))
    path.write_text(text, encoding="utf-8")
    assert load_params(path).train.learning_rate == 1e-5
