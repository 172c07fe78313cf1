"""The example of docs/serving.md for llama.cpp: its greedy answer to embeddings is that of transformers."""

import re
from pathlib import Path

import gguf
import pytest
import torch
from safetensors.torch import save_file

from tests.gguf_file import write_gguf
from tests.toy import ROOT, make_model

pytest.importorskip("llama_cpp", reason="needs llama-cpp-python, which has to be compiled")


def test_llama_cpp_answers_embeddings_as_transformers_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_model(tmp_path / "model", initializer_range=0.5)
    model, tokenizer = write_gguf(folder, tmp_path / "model.gguf", gguf.GGMLQuantizationType.F32)
    ids = tokenizer("<|im_start|>user\nWhat is coal?<|im_end|>\n<|im_start|>assistant\n", return_tensors="pt")[
        "input_ids"
    ]
    prompt = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        embeddings = torch.cat([prompt, model.get_input_embeddings()(ids[0])])
        new = model.generate(inputs_embeds=embeddings.unsqueeze(0), max_new_tokens=48, do_sample=False)[0]
        without = model.generate(input_ids=ids, max_new_tokens=48, do_sample=False)[0, ids.shape[1] :]
    assert new.tolist() != without.tolist(), "a prompt that changes nothing tests nothing"
    save_file({"prompt_embeds": embeddings}, tmp_path / "request.safetensors")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs/serving.md").read_text(encoding="utf-8")
    (example,) = (code for code in re.findall(r"```python\n(.*?)```", page, re.S) if "llama_cpp" in code)
    exec(compile(example, "docs/serving.md", "exec"), {})
    assert capsys.readouterr().out == f"{tokenizer.decode(new, skip_special_tokens=True)}\n"
