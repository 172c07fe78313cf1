"""Progress bars: on a terminal only, so that logs stay readable."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from softprompt.runtime.libraries import tqdm

__all__ = ["steps", "tqdm"]


@contextmanager
def steps(description: str, total: int) -> Iterator[Callable[[str], None]]:
    """A bar over `total` steps whose lengths are unknown; call the yielded function with a step's name as it begins.

    The elapsed time moves every second, so that a library's long silence doesn't look like a hang.
    """
    with tqdm(total=total, desc=description, bar_format="{desc}: {n}/{total}{postfix} |{bar}| {elapsed}") as bar:
        begun, done = 0, threading.Event()

        def begin(step: str) -> None:
            nonlocal begun
            bar.update(min(begun, 1))
            begun += 1
            bar.set_postfix_str(step)

        def tick() -> None:
            while not done.wait(1):
                bar.refresh()

        ticker = threading.Thread(target=tick, daemon=True)
        ticker.start()
        try:
            yield begin
            bar.update(total - bar.n)
        finally:
            done.set()
            ticker.join()
