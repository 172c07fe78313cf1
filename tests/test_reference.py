"""`make reference` against a hub on loopback, on real Chinese rows: the whole system that the pipeline was made for."""

import json
import re
from pathlib import Path

from peft import PeftConfig
from safetensors.torch import load_file
from transformers import AutoTokenizer

from tests.clones import call, clone_of_the_working_tree
from tests.hub import Hub
from tests.qwen import SYSTEM, alpaca_rows, make_qwen
from tests.toy import ROOT, write_params

TEXT = "下面是一段人与机器人的对话。"
(REVISION,) = re.findall(r"model\.revision=([0-9a-f]{40})", (ROOT / "Makefile").read_text(encoding="utf-8"))


def test_the_tokenizer_splits_as_qwens(tmp_path: Path) -> None:
    rows = alpaca_rows()
    tokenizer = AutoTokenizer.from_pretrained(make_qwen(tmp_path, [row["output"] for row in rows[:200]]))

    def pieces(text: str) -> list[str]:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
        return [tokenizer.decode([one]) for one in ids]

    assert [piece for piece in pieces("在2023年") if piece.isdigit()] == ["2", "0", "2", "3"], "digits one by one"
    assert pieces("好。\n\n好")[-1] == "好"
    assert not any("\n" in piece and piece.strip() and piece[0] not in "。" for piece in pieces("一。\n\n二\n三"))
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "你好"}], tokenize=False, add_generation_prompt=True
    )
    assert chat == (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n你好<|im_end|>\n<|im_start|>assistant\n"
    )


def test_make_reference(hub: Hub, tmp_path: Path) -> None:
    rows = alpaca_rows()
    texts = [text for row in rows for text in row.values()]
    qwen = make_qwen(tmp_path / "qwen", texts, shard="300KB")
    files = {path.name: path.read_bytes() for path in qwen.iterdir()}
    assert "model.safetensors.index.json" in files
    hub.repositories.clear()
    hub.repository("Qwen/Qwen2.5-0.5B-Instruct").commit(files, name=REVISION)
    data = {
        ".gitattributes": b"*.json filter=lfs\n",
        "README.md": b"---\nlicense: apache-2.0\nlanguage: [zh]\n---\n",
        "alpaca_data_zh_51k.json": json.dumps(rows, ensure_ascii=False, indent=2).encode(),
    }
    commit = hub.repository("lyuricky/alpaca_data_zh_51k", "datasets").commit(data)

    clone = clone_of_the_working_tree(tmp_path / "clone")
    write_params(clone, **{"evaluate.rows": 4, "general.blocks": 4})  # for the sake of time
    output = call(clone, "make reference")
    assert "Traceback" not in output
    source = json.loads((clone / "data/raw/source.json").read_text(encoding="utf-8"))
    assert (source["commit"], source["rows"], source["split"]) == (commit, len(rows), "train[:10%]")
    assert json.loads((clone / "models/base/source.json").read_text())["commit"] == REVISION
    for file, content in files.items():
        if file.endswith(".safetensors"):
            assert (clone / "models/base" / file).read_bytes() == content, "as the hub has it, bit for bit"

    # The second experiment is in the workspace: a prompt that began as the text.
    adapter = PeftConfig.from_pretrained(str(clone / "models/adapter"))
    assert (adapter.num_virtual_tokens, adapter.prompt_tuning_init_text) == (20, TEXT)
    tuned = json.loads((clone / "results/metrics.json").read_text(encoding="utf-8"))
    assert tuned["rows"] > 0
    assert load_file(clone / "models/adapter/adapter_model.safetensors")["prompt_embeddings"].shape == (20, 56)
    shown = json.loads(call(clone, "dvc exp show --json"))
    names = {experiment["name"] for experiment in shown[1]["experiments"]}
    assert names == {"reference-soft", "reference-hard"}
    switch = "dvc exp branch reference-soft soft && git switch soft && dvc checkout"
    assert "would be overwritten" in call(clone, switch, ok=False)
    call(clone, "git commit -qam hard && git switch soft && dvc checkout")
    soft = PeftConfig.from_pretrained(str(clone / "models/adapter"))
    assert soft.prompt_tuning_init_text is None or TEXT not in str(soft.prompt_tuning_init_text)
    downloads = [path for method, path, _ in hub.requests if method == "GET" and "/resolve/" in path]
    assert len(downloads) == len(set(downloads)), "what is cached is not fetched again"
