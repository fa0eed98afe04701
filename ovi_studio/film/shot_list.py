"""A film from a plain list: each line is the prompt of a shot, with speech and sound in the model's own tags."""

from ovi_studio.core.errors import JobError
from ovi_studio.core.prompt_composition import Speech, compose
from ovi_studio.film.script import Film, Shot, SpeechRow


def read_list(text: str, title: str) -> Film:
    """The film of a list; empty lines and those after `#` are left out. Raises `JobError` that names the line."""
    shots: list[Shot] = []
    for number, line in enumerate(text.splitlines(), 1):
        prompt = " ".join(line.split())
        if prompt and not prompt.startswith("#"):
            shots.append(_shot(prompt, number, str(len(shots) + 1)))
    if not shots:
        raise JobError("The list has no lines; write one prompt on each line.")
    return Film(title, tuple(shots))


def _shot(prompt: str, number: int, shot_id: str) -> Shot:
    parts = compose(prompt)
    if parts is None:
        raise JobError(
            f"Line {number}: its tags are not in order; write speech as <S>...<E>, and what is heard at the end as "
            f"<AUDCAP>...<ENDAUDCAP>."
        )
    between = [cue for cue in parts.cues if isinstance(cue, str)]
    return Shot(
        id=shot_id,
        prompt=" ".join(" ".join([parts.scene, *between]).split()),
        speech=tuple(
            SpeechRow(cue.said.strip(), how=f"{cue.who}{cue.mark if cue.mark != ',' else ''}")
            for cue in parts.cues
            if isinstance(cue, Speech) and cue.said.strip()
        ),
        sound=parts.sound.strip(),
    )
