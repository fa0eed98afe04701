"""First frames for the embedded model: what kind of picture it can continue, and two that come with it. No torch."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ovi_studio.demo.scenes import Background, Colour, Motion, Scene, Shape, Sound, render

SIDE = 432
"""Height and width of the examples in pixels, three times those of a clip."""
FIRST_FRAME_ADVICE = (
    "The embedded model continues pictures of one plain ball, square, triangle or ring before a wall and a floor, "
    "about a third of the picture high. It was never shown photographs: their first frame is kept, and then dissolves."
)


@dataclass(frozen=True)
class ExamplePicture:
    """A picture that the embedded model continues well, and a prompt for it."""

    title: str
    prompt: str
    scene: Scene

    @property
    def path(self) -> Path:
        return Path(__file__).with_name("pictures") / f"{self.title.lower().replace(' ', '-')}.png"

    def draw(self) -> np.ndarray:
        """Return the picture that is in the file, uint8 (SIDE, SIDE, 3)."""
        return render(self.scene, slice(0, 1), SIDE)[0]


EXAMPLES = (
    ExamplePicture(
        "Orange ball",
        "An orange ball moves from right to left at night. <AUDCAP>a high tone<ENDAUDCAP>",
        Scene(Colour.ORANGE, Shape.BALL, Background.NIGHT, Motion.LEFT, Sound.HIGH_TONE),
    ),
    ExamplePicture(
        "Purple triangle",
        "A purple triangle bounces on a green floor. <AUDCAP>a thud at every bounce<ENDAUDCAP>",
        Scene(Colour.PURPLE, Shape.TRIANGLE, Background.GREEN_FLOOR, Motion.BOUNCE, Sound.IMPACT),
    ),
)
