"""A toy project: a random two-layer model, a tokenizer trained here, forty-eight rows, and params that suit them."""

import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from softprompt.config.data import Columns, Data
from softprompt.config.model import Model

ROOT = Path(__file__).parent.parent
FETCH = ("local_sources", "fetch_model", "fetch_data", "fetch_general")
STAGES = (*FETCH, "prepare", "tokenize", "train", "evaluate", "report")

CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a toy.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QUESTIONS = ("What is {}?", "Where does {} come from?", "Name a colour of {}.")
THINGS = ("an apple", "a bell", "coal", "dew", "an eel", "fog", "a gate", "hay", "ink", "jam", "a kite", "lead")
TOY = {
    "threads": 1,
    "model.source": "toy/model",
    "data.source": "toy/rows.json",
    "general.source": "toy/general.txt",
    "general.blocks": 6,
    "general.block_tokens": 16,
    "prepare.validation": 0.2,
    "prepare.test": 0.2,
    "runtime.workers": 1,
    "train.num_virtual_tokens": 4,
    "train.max_steps": 4,
    "train.batch_size": 8,
    "train.gradient_accumulation_steps": 1,
    "train.eval_steps": 2,
    "evaluate.rows": 5,
    "evaluate.generate.max_new_tokens": 8,
}


def toy_rows() -> list[dict[str, str]]:
    """Alpaca rows; every third has an input."""
    rows = []
    for number, thing in enumerate(THINGS):
        for kind, question in enumerate(QUESTIONS):
            rows.append(
                {
                    "instruction": question.format(thing),
                    "input": f"Think of number {number}." if kind == 0 else "",
                    "output": f"It is thing {number}, and {thing} is kind {kind}. " * (1 + (number + kind) % 3),
                }
            )
    rows += [{**row, "instruction": f"Tell me: {row['instruction']}"} for row in rows[:12]]
    return rows


def make_model(folder: Path, **config: Any) -> Path:
    """Save a random Llama of two layers and a byte-level BPE tokenizer with a ChatML template to `folder`."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator([text for row in toy_rows() for text in row.values()], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.chat_template = CHATML
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        sizes |= {"num_key_value_heads": 2, "max_position_embeddings": 512, "vocab_size": len(tokenizer)}
        ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
        model = LlamaForCausalLM(LlamaConfig(tie_word_embeddings=True, **ids, **{**sizes, **config}))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def add_beginning(folder: Path) -> None:
    """Have the tokenizer in `folder` put <|endoftext|> in front of every text."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    tokenizer, token = AutoTokenizer.from_pretrained(folder), "<|endoftext|>"
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{token} $A", special_tokens=[(token, tokenizer.convert_tokens_to_ids(token))]
    )
    tokenizer.bos_token = token
    tokenizer.save_pretrained(folder)


def model_params(source: str, **settings: Any) -> Model:
    """The section `model` of params.yaml; `settings` are its keys."""
    usual = {"revision": None, "sha256": None, "dtype": None, "quantization": None, "tf32": False, "device_map": None}
    return Model.model_validate({"source": source, **usual, **settings})


def data_params(source: str = "rows", **settings: Any) -> Data:
    """The section `data` of params.yaml; `settings` are its keys, and those of `columns`."""
    columns = {key: settings.pop(key, [] if key == "ignore" else None) for key in Columns.model_fields}
    usual = dict.fromkeys(Data.model_fields) | {"format": "auto", "split": "train", "bad_rows": "drop"}
    return Data.model_validate({**usual, "source": source, "columns": columns, "max_bad_rows": 0.1, **settings})


def write_params(folder: Path, **changes: Any) -> None:
    """The project's params.yaml with `changes` (dotted keys) in `folder`; keys that it lacks are added."""
    yaml = YAML()
    target = folder / "params.yaml"
    values = yaml.load(target if target.exists() else ROOT / "params.yaml")
    for key, value in changes.items():
        *sections, name = key.split(".")
        place = values
        for section in sections:
            place = place[section]
        place[name] = value
    with target.open("w", encoding="utf-8") as file:
        yaml.dump(values, file)


def write_rows(folder: Path, rows: list[dict[str, str]] | None = None) -> Path:
    """`rows` (or the toy's own) as toy/rows.json in `folder`."""
    path = folder / "toy/rows.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(toy_rows() if rows is None else rows, ensure_ascii=False), encoding="utf-8")
    return path


def write_general(folder: Path) -> Path:
    """Twelve paragraphs that are no answers as toy/general.txt in `folder`."""
    path = folder / "toy/general.txt"
    path.parent.mkdir(exist_ok=True)
    paragraphs = [f"About {thing}. " + f"Once there was {thing} by the sea. " * 8 for thing in THINGS]
    path.write_text("\n\n".join(paragraphs), encoding="utf-8")
    return path
