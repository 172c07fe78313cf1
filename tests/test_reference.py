"""Against a hub on loopback, on real Chinese rows: `make reference`, and a first run on another model and data."""

import json
import re
from pathlib import Path

import pytest
from peft import PeftConfig
from safetensors.torch import load_file
from transformers import AutoTokenizer

from tests.clones import blocks, call, clone_of_the_working_tree, stages_run
from tests.hub import Hub
from tests.qwen import SYSTEM, alpaca_rows, make_qwen
from tests.toy import ROOT, STAGES, write_params

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


@pytest.fixture
def qwen(hub: Hub, tmp_path: Path) -> dict[str, bytes]:
    """Files of the model that the hub has: Qwen's architecture and tokenizer, small and random."""
    texts = [text for row in alpaca_rows() for text in row.values()]
    folder = make_qwen(tmp_path / "qwen", texts, shard="300KB")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert "model.safetensors.index.json" in files
    hub.repositories.clear()
    hub.repository("Qwen/Qwen2.5-0.5B-Instruct").commit(files, name=REVISION)
    return files


@pytest.mark.slow
@pytest.mark.usefixtures("qwen")
def test_a_run_with_ones_own_model_and_data(tmp_path: Path) -> None:
    """The README's block: two overrides, and a third for a GPU. All else is as delivered."""
    (block,) = blocks((ROOT / "README.md").read_text(encoding="utf-8"), needs="hub")
    on_cpu, on_gpu = block.splitlines()[1:]
    clone = clone_of_the_working_tree(tmp_path / "clone")
    rows = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in alpaca_rows()[:300])
    (clone / "data/local/rows.jsonl").write_text(rows, encoding="utf-8")
    output = call(clone, on_cpu)
    assert "Traceback" not in output
    assert sorted(stages_run(output)) == sorted(STAGES)
    source = json.loads((clone / "models/base/source.json").read_text(encoding="utf-8"))
    assert (source["source"], source["commit"]) == ("hf://Qwen/Qwen2.5-0.5B-Instruct", REVISION)
    metrics = json.loads((clone / "results/metrics.json").read_text(encoding="utf-8"))
    assert 0 < metrics["answers"]["rows"] <= metrics["rows"]
    assert on_gpu.partition("  #")[0] == f"{on_cpu} -S device=cuda"


def test_make_reference(hub: Hub, qwen: dict[str, bytes], tmp_path: Path) -> None:
    rows, files = alpaca_rows(), qwen
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
