"""The frozen model as it is loaded, and a new prompt on it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from softprompt.engine.linear import cpu_matmul_of
from softprompt.runtime.errors import InputError
from softprompt.training.base import check_context, chosen_by_auto, load_base_model, naming_parameter, set_tf32
from tests.toy import add_beginning
from tests.training.prompts import fresh, params_of, prompt

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")


class TestInitialisation:
    def make(self, finished: Path, folder: Path, **changes: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The prompt's weights and the embedding table."""
        model = fresh(finished / "models/base", params_of(folder, **changes))
        weight = prompt(model)
        assert weight.dtype == torch.float32
        return weight, model.get_base_model().get_input_embeddings().weight

    def test_random(self, finished: Path, tmp_path: Path) -> None:
        weight, _ = self.make(finished, tmp_path, **{"train.init": "random", "train.num_virtual_tokens": 200})
        assert weight.mean().item() == pytest.approx(0, abs=0.05)
        assert weight.std().item() == pytest.approx(1, abs=0.05)

    def test_vocabulary(self, finished: Path, tmp_path: Path) -> None:
        weight, table = self.make(finished, tmp_path, **{"train.init": "vocabulary", "train.num_virtual_tokens": 60})
        tokens = [torch.nonzero((table == row).all(1)).item() for row in weight]
        assert len(set(tokens)) == 60, "without replacement"
        assert not set(tokens) & {0, 1, 2}, "no special token"

    def test_text_is_repeated(self, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        changes = {"train.init": "text", "train.init_text": "fog", "train.num_virtual_tokens": 7}
        weight, table = self.make(finished, tmp_path, **changes)
        ids = AutoTokenizer.from_pretrained(finished / "models/base")("fog")["input_ids"]
        assert torch.equal(weight, table[(ids * 7)[:7]].detach())
        assert "repeated to fill 7 virtual tokens" in capsys.readouterr().out

    def test_text_is_cut_with_a_warning(
        self, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        text = "Where does fog come from, and where does it go?"
        changes = {"train.init": "text", "train.init_text": text, "train.num_virtual_tokens": 3}
        weight, table = self.make(finished, tmp_path, **changes)
        ids = AutoTokenizer.from_pretrained(finished / "models/base")(text)["input_ids"]
        assert torch.equal(weight, table[ids[:3]].detach())
        assert (
            f"warning: train.init_text has {len(ids)} tokens, train.num_virtual_tokens is 3" in capsys.readouterr().err
        )

    @pytest.mark.parametrize("method", ["prompt_tuning", "prefix_tuning"])
    def test_a_text_has_no_beginning_token(
        self, toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
    ) -> None:
        """A tokenizer's BOS stands before a row, not in the prompt, and not where the prompt's text is repeated."""
        monkeypatch.chdir(tmp_path)
        weights = []
        for name in ("plain", "beginning"):
            folder = Path(shutil.copytree(toy_model, name))
            if name == "beginning":
                add_beginning(folder)
                assert AutoTokenizer.from_pretrained(folder)("fog")["input_ids"][0] == 0
            changes = {"train.init": "text", "train.init_text": "fog and dew", "train.num_virtual_tokens": 30}
            weights.append(prompt(fresh(folder, params_of(tmp_path, **{"train.method": method, **changes}))))
        assert torch.equal(*weights)


GPUS = {"cuda": ("CUDA device", torch.cuda), "mps": ("GPU of Apple's \\(MPS\\)", torch.backends.mps)}


@pytest.mark.parametrize("device", [name for name, (_, backend) in GPUS.items() if not backend.is_available()])
def test_a_missing_device_is_refused(finished: Path, tmp_path: Path, device: str) -> None:
    message = f"^device: torch finds no {GPUS[device][0]} here; allowed: cpu, or auto"
    with pytest.raises(InputError, match=message):
        load_base_model(finished / "models/base", params_of(tmp_path, device=device))


def test_out_of_memory_names_the_parameter() -> None:
    """torch's own allocator, asked for more than any machine has."""
    message = r"^out of memory; allowed: a smaller batch \(.*can't allocate memory"
    with pytest.raises(InputError, match=message), naming_parameter("a smaller batch"):
        torch.empty(2**54)
    with pytest.raises(RuntimeError, match="size"), naming_parameter("a smaller batch"):
        torch.ones(2) + torch.ones(3)
    with pytest.raises(InputError, match="a smaller batch"), naming_parameter("a smaller batch"):
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")


@pytest.fixture
def precision() -> Iterator[None]:
    """What a test sets is set back."""
    yield
    set_tf32(False)


@pytest.mark.usefixtures("precision")
def test_tf32_is_of_a_gpu_alone_and_only_where_it_is_wanted(finished: Path, tmp_path: Path) -> None:
    ids, found = torch.arange(5, 15).unsqueeze(0), {}
    for wanted in (True, False):
        model = load_base_model(finished / "models/base", params_of(tmp_path, **{"model.tf32": wanted}))
        assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == wanted
        assert torch.get_float32_matmul_precision() == ("high" if wanted else "highest"), "torch's compiler asks this"
        found[wanted] = model(ids.to(model.device)).logits
    if not torch.cuda.is_available():
        assert torch.equal(found[True], found[False])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.usefixtures("precision")
def test_tf32_rounds_the_factors_of_products() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(2, 512, 512, device="cuda")
    right, far = x.double() @ y.double(), {}
    for wanted in (False, True):
        set_tf32(wanted)
        far[wanted] = float((x @ y - right).abs().max() / right.abs().max())
    assert far[False] < 1e-5
    assert far[True] > 1e-4


def test_a_device_map_of_one_device_changes_nothing(finished: Path, tmp_path: Path) -> None:
    model = load_base_model(finished / "models/base", params_of(tmp_path, **{"model.device_map": "auto"}))
    assert {weight.device.type for weight in model.parameters()} == {"cuda" if torch.cuda.is_available() else "cpu"}


def test_dtype_and_threads(finished: Path, tmp_path: Path) -> None:
    model = load_base_model(finished / "models/base", params_of(tmp_path, **{"model.dtype": "bfloat16", "threads": 2}))
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert torch.get_num_threads() == 2
    assert (
        load_base_model(finished / "models/base", params_of(tmp_path, **{"model.dtype": "auto"})).dtype == torch.float32
    )
    assert torch.get_num_threads() == 1


@needs_onednn
def test_cpu_matmul(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for value in ("onednn", "mkl"):
        params = params_of(tmp_path, cpu_matmul=value)
        model = load_base_model(finished / "models/base", params)
        assert cpu_matmul_of(model) == value
        assert chosen_by_auto(model, params, "train") == {}
    params = params_of(tmp_path, cpu_matmul="auto")
    model = load_base_model(finished / "models/base", params)
    assert chosen_by_auto(model, params, "train") == {"cpu_matmul": cpu_matmul_of(model)}
    assert capsys.readouterr().out.endswith(
        f"train: cpu_matmul: auto chose {cpu_matmul_of(model)}, the faster one here\n"
    )


@pytest.fixture
def stored_in_bfloat16(toy_model: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "bfloat16"
    AutoModelForCausalLM.from_pretrained(toy_model, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


def test_without_a_dtype_a_cpu_computes_in_float32(stored_in_bfloat16: Path, tmp_path: Path) -> None:
    wanted = {None: torch.float32, "auto": torch.bfloat16, "float16": torch.float16}
    found = {
        dtype: load_base_model(stored_in_bfloat16, params_of(tmp_path, device="cpu", **{"model.dtype": dtype})).dtype
        for dtype in wanted
    }
    assert found == wanted


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("changes", [{"device": "cuda"}, {"device": "auto"}, {"model.device_map": "auto"}])
def test_without_a_dtype_a_gpu_computes_as_stored(stored_in_bfloat16: Path, tmp_path: Path, changes: Any) -> None:
    params = params_of(tmp_path, **{"model.dtype": None, **changes})
    assert load_base_model(stored_in_bfloat16, params).dtype == torch.bfloat16


def test_rows_beyond_the_context_are_refused(finished: Path, tmp_path: Path) -> None:
    model = load_base_model(finished / "models/base", params_of(tmp_path))
    check_context(model, 12, 500, "a prompt")
    with pytest.raises(InputError, match="the model's context is 512 tokens"):
        check_context(model, 13, 500, "a prompt")
