"""A terminal progress bar for the steps of a clip."""

from collections.abc import Callable
from typing import Any


def step_bar() -> Callable[[int, int], None]:
    """Return a callback for (steps done, total steps) that shows the seconds per step and the time left."""
    from tqdm import tqdm

    bar: Any = None

    def on_step(index: int, total: int) -> None:
        nonlocal bar
        if index == 1:
            if bar is not None:  # memory ran out, and the clip was started again
                bar.close()
            # Starts after the first step, so that loading is not measured as part of it.
            form = "{percentage:3.0f}%|{bar}| step {n_fmt} of {total_fmt}, {rate_inv_fmt}, {remaining} left"
            bar = tqdm(total=total, initial=1, unit="step", bar_format=form, leave=False)
        else:
            bar.update()
        if index == total:
            bar.close()

    return on_step
