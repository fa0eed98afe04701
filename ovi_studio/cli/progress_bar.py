"""A bar on the terminal for the steps of a clip."""

from collections.abc import Callable
from typing import Any


def step_bar() -> Callable[[int, int], None]:
    """Called with the number of the step that is done and of all: shows seconds a step and the time left."""
    from tqdm import tqdm

    bar: Any = None

    def on_step(index: int, total: int) -> None:
        nonlocal bar
        if index == 1:
            if bar is not None:  # memory ran out, and the clip is made again
                bar.close()
            # Begins with the first step done, so that loading does not count as one.
            form = "{percentage:3.0f}%|{bar}| step {n_fmt} of {total_fmt}, {rate_inv_fmt}, {remaining} left"
            bar = tqdm(total=total, initial=1, unit="step", bar_format=form, leave=False)
        else:
            bar.update()
        if index == total:
            bar.close()

    return on_step
