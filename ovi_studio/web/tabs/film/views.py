"""HTML of the storyboard. All text from users is escaped here; `film.js` puts the cards into the page."""

from html import escape
from typing import Any

from ovi_studio.film.script import MAX_TAKES, FromPicture
from ovi_studio.queue.model import JobState
from ovi_studio.services.films import FilmStatus, ShotStatus, TakeStatus
from ovi_studio.takes.check import fault_lines, score_summary
from ovi_studio.web.public_text import for_page
from ovi_studio.web.tabs.film import texts

_ICONS = {
    "earlier": (texts.EARLIER, "M19 12H6M11 6l-6 6 6 6"),
    "later": (texts.LATER, "M5 12h13M13 6l6 6-6 6"),
    "edit": (texts.EDIT, "M4 20h4L19 9l-4-4L4 16zM13 7l4 4"),
    "again": (texts.AGAIN, "M4 12a8 8 0 1 1 2.5 5.8M4 12V6M4 12h6"),
}


def storyboard(status: FilmStatus | None) -> dict[str, Any]:
    """Return the value that `film.js` renders."""
    if status is None:
        return {"shots": [], "empty": texts.EMPTY}
    shots = [_shot(shot, number, len(status.shots)) for number, shot in enumerate(status.shots, 1)]
    return {"shots": shots, "empty": ""}


def summary_html(status: FilmStatus | None) -> str:
    """Render the line about the whole film."""
    if status is None:
        return ""
    return f"<p>{texts.made(status.done, len(status.shots))}</p>"


def _shot(status: ShotStatus, number: int, total: int) -> dict[str, Any]:
    clip = _clip(status.chosen)
    return {"id": status.shot.id, "clip": clip, "html": _card(status, number, total)}


def _card(status: ShotStatus, number: int, total: int) -> str:
    chosen = status.chosen
    name = texts.shot(number)
    hidden = {"earlier"} if number == 1 else {"later"} if number == total else set()
    buttons = "".join(_button(action, name) for action in _ICONS if action not in hidden)
    takes = "".join(_take(take) for take in status.takes) if len(status.takes) > 1 else ""
    message = f'<p class="message">{escape(for_page(chosen.message))}</p>' if chosen.message else ""
    return (
        f'<div class="still">{_picture(chosen, name)}<span class="number">{number}</span>'
        f'<span class="chip {chosen.state}">{texts.STATES[chosen.state]}</span></div>'
        f'<div class="about">{_text(status)}{message}{_scores(chosen)}</div>'
        + (f'<div class="takes" role="group" aria-label="{texts.takes_of(number)}">{takes}</div>' if takes else "")
        + f'<div class="actions">{buttons}</div>{_form(status, name)}'
    )


def _picture(take: TakeStatus, name: str) -> str:
    if _clip(take) is None:
        return ""
    return (
        f'<button type="button" data-action="play" aria-label="{texts.play_from(name)}">'
        f'<img src="studio/job/{take.job}/picture.jpg?done" alt="" loading="lazy" decoding="async">'
        '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M8 5l11 7-11 7z"/></svg></button>'
    )


def _clip(take: TakeStatus) -> str | None:
    """The address of a take's clip; none if its job was deleted, since routes go by jobs."""
    made = take.state == JobState.DONE and take.clip is not None and take.job_number is not None
    return f"studio/job/{take.job}/clip.mp4" if made else None


def _text(status: ShotStatus) -> str:
    shot = status.shot
    facts = [texts.continues(status.continues)] if status.continues else []
    facts += [texts.FROM_PICTURE] if isinstance(shot.begin, FromPicture) else []
    facts += [texts.fades(shot.fade_ms)] if shot.fade_ms else []
    facts += [shot.place] if shot.place else []
    facts += [texts.until_right(shot.takes)] if shot.takes.word_errors is not None else []
    rows = "".join(f"<p class=said><b>{escape(row.who or row.how)}</b> {escape(row.said)}</p>" for row in shot.speech)
    prompt = f"<p>{escape(shot.prompt)}</p>" if shot.prompt else ""
    return f'{prompt}{rows}<p class="facts">{escape(" · ".join(facts))}</p>'


def _scores(take: TakeStatus) -> str:
    """What was measured about a take: a list, in which what is wrong stands out."""
    lines = [(line, False) for line in score_summary(take.scores)] + [(line, True) for line in fault_lines(take.scores)]
    items = "".join(f"<li{' class=fault' if bad else ''}>{escape(for_page(line))}</li>" for line, bad in lines)
    return f'<ul class="scores" aria-label="{texts.checks_of(take.number)}">{items}</ul>' if items else ""


def _take(take: TakeStatus) -> str:
    pressed = str(take.chosen).lower()
    return (
        f'<button type="button" data-action="choose" data-take="{take.number}" aria-pressed="{pressed}" '
        f'title="{escape(_about_take(take))}">{texts.take(take.number)}</button>'
    )


def _about_take(take: TakeStatus) -> str:
    lines = [*score_summary(take.scores), *fault_lines(take.scores)]
    return ". ".join([texts.state_and_seed(take.state, take.seed), *(for_page(line).rstrip(".") for line in lines)])


def _button(action: str, name: str) -> str:
    label, path = _ICONS[action]
    return (
        f'<button type="button" data-action="{action}" aria-label="{label}: {name.lower()}" title="{label}">'
        f'<svg viewBox="0 0 24 24" aria-hidden="true"><path d="{path}"/></svg></button>'
    )


def _form(status: ShotStatus, name: str) -> str:
    """The form that edits a shot, which `film.js` opens."""
    fields = _field(texts.seen(name), "prompt", status.shot.prompt)
    for number, row in enumerate(status.shot.speech, 1):
        who = row.who or row.how or texts.SOMEBODY
        fields += _field(texts.speech(number, who), f"said-{number - 1}", row.said)
    fields += _field(texts.SOUND, "sound", status.shot.sound)
    fields += _first_frame(isinstance(status.shot.begin, FromPicture))
    takes = status.shot.takes
    percent = "" if takes.word_errors is None else f"{100 * takes.word_errors:.0f}"
    fields += _number(texts.TAKES, "takes", str(takes.count), 1, MAX_TAKES)
    if status.shot.speech:
        fields += _number(texts.UNTIL, "percent", percent, 0, 99)
    return (
        f'<form hidden>{fields}<div><button type="submit" class="primary">{texts.SAVE}</button>'
        f'<button type="button" data-action="close">{texts.CANCEL}</button></div></form>'
    )


def _first_frame(chosen: bool) -> str:
    label = texts.ANOTHER_FRAME if chosen else texts.FIRST_FRAME
    upload = f'<label>{label}<input type="file" name="picture" accept="image/*"></label>'
    without = f'<label class="tick"><input type="checkbox" name="cut" value="yes">{texts.WITHOUT_FRAME}</label>'
    return upload + (without if chosen else "")


def _number(label: str, name: str, value: str, least: int, most: int) -> str:
    return (
        f'<label>{escape(label)}<input type="number" name="{name}" min="{least}" max="{most}" step="1" '
        f'value="{escape(value)}"></label>'
    )


def _field(label: str, name: str, value: str) -> str:
    return f'<label>{escape(label)}<textarea name="{name}" rows="2" maxlength="4000">{escape(value)}</textarea></label>'
