"""The recipe of the embedded bundle: how long each stage of its training takes, and at which rates."""

from dataclasses import dataclass, replace

from ovi_studio.demo.fit import TrainingBudget
from ovi_studio.demo.lightning import LightningBudget
from ovi_studio.training.settings import FlowSettings, TrainSettings


@dataclass(frozen=True)
class Recipe:
    """Training time of each stage, and the number of scenes."""

    seed: int
    text: TrainingBudget
    audio: TrainingBudget
    video: TrainingBudget
    vocoder: TrainingBudget
    decoder: TrainingBudget
    outlines: TrainingBudget
    refiner: TrainingBudget
    scenes: int
    regenerated: int
    transformer: TrainSettings
    lightning: LightningBudget


RECIPE = Recipe(
    seed=0,
    text=TrainingBudget(steps=4200, learning_rate=3e-3),
    audio=TrainingBudget(minutes=9),
    video=TrainingBudget(minutes=20),
    vocoder=TrainingBudget(minutes=20),
    decoder=TrainingBudget(minutes=70, learning_rate=5e-4, matrix_rate=4e-3),
    outlines=TrainingBudget(minutes=60),
    refiner=TrainingBudget(minutes=45),
    scenes=3000,
    regenerated=800,
    transformer=TrainSettings(
        minutes=170,
        batch_size=8,
        learning_rate=2e-3,
        muon_learning_rate=0.02,
        ema=0.998,
        flow=FlowSettings(shift=3.0, first_frame=0.15),
        checkpoint_minutes=3.0,
    ),
    lightning=LightningBudget(
        trajectories=640,
        train=TrainSettings(minutes=34, batch_size=16, learning_rate=2.4e-3, checkpoint_minutes=3.0),
    ),
)
"""For a bundle like the committed one (docs/demo-model.md lists the differences); minutes on one server core each."""
CONTINUATION = replace(
    RECIPE,
    decoder=replace(RECIPE.decoder, minutes=None, steps=540, learning_rate=1e-3, matrix_rate=6e-3),
    refiner=replace(RECIPE.refiner, minutes=28, learning_rate=1e-3, matrix_rate=0.01),
    transformer=replace(
        RECIPE.transformer,
        minutes=55,
        learning_rate=1e-3,
        muon_learning_rate=0.01,
        # Outlines are decided late in sampling.
        flow=FlowSettings(shift=1.5, first_frame=0.4),
    ),
    lightning=LightningBudget(trajectories=320, train=replace(RECIPE.lightning.train, minutes=14)),
)
"""For continued training of a bundle: the transformer's rates are halved, its noise levels nearer to the clean clip."""
