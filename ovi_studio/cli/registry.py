"""All commands, in the order of the help. To add one, add a file to this folder and a line here."""

from ovi_studio.cli import (
    bench,
    distil,
    doctor,
    download,
    engine,
    film,
    generate,
    improve,
    loras,
    plan,
    show,
    sign,
    suggest,
    train,
    train_lora,
)

COMMANDS = (
    generate.COMMAND,
    improve.COMMAND,
    film.COMMAND,
    show.COMMAND,
    sign.COMMAND,
    suggest.COMMAND,
    download.COMMAND,
    loras.COMMAND,
    doctor.COMMAND,
    bench.COMMAND,
    plan.COMMAND,
    train_lora.COMMAND,
    train.COMMAND,
    distil.COMMAND,
    engine.COMMAND,
)
