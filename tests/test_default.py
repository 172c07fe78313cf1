"""The embedded default: the real model and the real corpus through the real DVC, with few rows and steps."""

import json
from pathlib import Path

from safetensors import safe_open

from tests.clones import call, clone_of_the_working_tree, stages_run
from tests.toy import STAGES, write_params


def test_the_embedded_default(tmp_path: Path) -> None:
    clone = clone_of_the_working_tree(tmp_path / "clone")
    few = {"prepare.max_samples": 120, "train.max_steps": 2, "train.eval_steps": 2, "general.blocks": 4}
    write_params(clone, **few, **{"evaluate.rows": 4, "evaluate.generate.max_new_tokens": 8})
    output = call(clone, "make repro")
    assert sorted(stages_run(output)) == sorted(STAGES)
    with safe_open(clone / "models/base/model.safetensors", "pt") as weights:
        assert len(list(weights.keys())) == 272
    prepared = json.loads((clone / "results/prepare.json").read_text(encoding="utf-8"))
    assert prepared["rows_in"] == 2306
    metrics = json.loads((clone / "results/metrics.json").read_text(encoding="utf-8"))
    assert metrics["rows"] == next(part["rows"] for part in prepared["splits"] if part["split"] == "test")
    # A model that knows English: a random one of this vocabulary is at ln 49152 = 10.8.
    assert 1.5 < metrics["base"]["loss"] < 4
    with safe_open(clone / "models/adapter/adapter_model.safetensors", "pt") as prompt:
        assert {name: prompt.get_slice(name).get_shape() for name in prompt.keys()} == {  # noqa: SIM118 (no mapping)
            "prompt_embeddings": [20, 576]
        }
