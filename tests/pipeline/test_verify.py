"""`softprompt verify` on the toy: the same bytes, another instruction set, and what is no rounding."""

from pathlib import Path

import pytest

from tests.clones import call

OTHER_CPU = "ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2"


@pytest.mark.slow  # the whole pipeline a second time: nothing shorter shows what another processor does
def test_another_instruction_set_rounds_and_verify_says_so(clone: Path) -> None:
    assert "HEAD: the same bytes" in call(clone, "softprompt verify")
    call(clone, f"{OTHER_CPU} dvc repro --force")
    changed = call(clone, "git diff --name-only HEAD").split()
    assert "dvc.lock" in changed, "sums are rounded in another way"
    assert not {"results/prepare.json", "results/tokenize.json"} & set(changed)
    output = call(clone, "softprompt verify")
    assert "HEAD: the same but for rounding, as on another kind of CPU: no loss differs by more than 0.0000" in output
    assert "models/adapter" in output
    assert "data/tokenized" not in output
    refused = call(clone, "softprompt verify --tolerance 0", ok=False)
    assert "error: HEAD: not the same result: " in refused
    assert "Traceback" not in refused


def test_a_real_difference_is_no_rounding(clone: Path) -> None:
    """Another adapter under the same code and params, as a stage that isn't deterministic would give."""
    call(clone, "dvc exp run -S train.num_virtual_tokens=2")
    call(clone, "git checkout HEAD params.yaml && sed -i 's/num_virtual_tokens: 2$/num_virtual_tokens: 4/' dvc.lock")
    output = call(clone, "softprompt verify --tolerance 0.0001", ok=False)
    assert "error: HEAD: not the same result: " in output
    assert "more than rounding does (allowed: 0.0001)" in output
