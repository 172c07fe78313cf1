"""Where checkpoints lie, and who holds them."""

import threading
import time

from softprompt.training.resume import checkpoint_folder, tell_of_others


def test_the_folder_is_that_of_the_main_repository(project, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    with checkpoint_folder("abc") as folder:
        assert folder == tmp_path / "main/.resume/abc"
    assert not (tmp_path / "main/.resume").exists()


def test_a_second_run_of_the_same_work_waits_for_the_first(project, capfd) -> None:
    order = []

    def second() -> None:
        with checkpoint_folder("abc"):
            order.append("second")

    with checkpoint_folder("abc") as folder:
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
        assert folder.exists()
    thread.join(timeout=10)
    assert order == ["first", "second"]
    assert "another run is doing the same work; waiting" in capfd.readouterr().out


def test_checkpoints_of_a_killed_run_are_told_of_those_of_a_running_one_not(project, capfd) -> None:
    """Experiments side by side have nothing to do with each other."""
    with checkpoint_folder("abc") as folder, checkpoint_folder("of a run beside it"):
        tell_of_others(folder)
        assert capfd.readouterr().out == ""
        (folder.parent / "of a killed run").mkdir()
        tell_of_others(folder)
        assert "holds checkpoints of 1 other run(s)" in capfd.readouterr().out
