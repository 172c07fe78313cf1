"""`runtime.require`: the exit of `make repro` where the tuned prompt is not better than the hard one."""

import json
from pathlib import Path

import pytest

from softprompt.evaluation import headline
from softprompt.evaluation.names import NAMES
from softprompt.runtime.errors import InputError
from tests.toy import write_params


@pytest.mark.parametrize("verdict", ["no evidence", "harms", "helps"])
def test_the_gate(finished: Path, project: Path, capsys: pytest.CaptureFixture[str], verdict: str) -> None:
    metrics = json.loads((finished / "results/metrics.json").read_text(encoding="utf-8"))
    (project / "results").mkdir()
    (project / "results/metrics.json").write_text(json.dumps({**metrics, "verdict": verdict}), encoding="utf-8")
    headline.main()
    write_params(project, **{"runtime.require": True})
    if verdict == "helps":
        headline.main()
    else:
        with pytest.raises(
            InputError,
            match=rf"runtime.require: the tuned prompt has to be better than the {NAMES[metrics['strongest']]}",
        ):
            headline.main()
    assert capsys.readouterr().out.count(f"Verdict: {verdict}.") == 2, "the result is shown all the same"
