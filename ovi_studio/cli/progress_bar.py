"""Terminal progress bars: for the steps of a clip, and for its frames."""

from collections.abc import Callable
from typing import Any, Self


def step_bar(of: str = "") -> Callable[[int, int], None]:
    """Return a callback for (steps done, total steps) that shows the seconds per step and the time left.

    Args:
        of: what the steps make, if it is not the clip.
    """
    from tqdm import tqdm

    bar: Any = None

    def on_step(index: int, total: int) -> None:
        nonlocal bar
        if index == 1:
            if bar is not None:  # memory ran out, and the clip was started again
                bar.close()
            # Starts after the first step, so that loading is not measured as part of it.
            form = (
                f"{of} " if of else ""
            ) + "{percentage:3.0f}%|{bar}| step {n_fmt} of {total_fmt}, {rate_inv_fmt}, {remaining} left"
            bar = tqdm(total=total, initial=1, unit="step", bar_format=form, leave=False)
        else:
            bar.update()
        if index == total:
            bar.close()

    return on_step


class FrameBar:
    """A context manager, called with (frames done, total frames), that shows the pace and the time left."""

    def __init__(self) -> None:
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __call__(self, done: float, total: int) -> None:
        if self._bar is None:
            from tqdm import tqdm

            # Starts with what an earlier process has done, so that it does not count in the pace.
            form = "{percentage:3.0f}%|{bar}| frame {n:.0f} of {total}, {rate_inv_fmt}, {remaining} left"
            self._bar = tqdm(total=total, initial=int(done), unit="frame", bar_format=form, leave=False)
        self._bar.update(max(0.0, done - self._bar.n))

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
