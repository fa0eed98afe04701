"""What the prompt editor knows about Ovi's format: parts, speaker rows, findings and the pace of speech.

Pure functions over text; nothing here changes what a model gets. Speech stands in `<S>...<E>`, the audio description
at the end, in `<AUDCAP>...<ENDAUDCAP>` or after `Audio:`. Tags count as the official code reads them: exactly so
written, capitals included.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ovi_studio.core.prompts import MAX_PROMPT_LENGTH, AudioTag

CALM_PACE = 2.5
"""Words a second. A rule of thumb: English is read aloud at 150 to 160 words a minute (audio books), which is 2.5 to
2.7; what is spoken with feeling and pauses is slower. No figure of the Ovi paper says where its speech breaks."""
FAST_PACE = 4.0
"""Words a second. A rule of thumb: about 240 words a minute, as fast as auctioneers of a gentle kind; beyond it words
are swallowed or cut off at the clip's end."""

_TAG = re.compile(r"<S>|<E>|<AUDCAP>|<ENDAUDCAP>|Audio:")
_SPEECH = re.compile(r"<S>((?:(?!<S>).)*?)<E>", re.DOTALL)
_AUDCAP = re.compile(r"<AUDCAP>(.*?)<ENDAUDCAP>", re.DOTALL)
_AUDIO = re.compile(r"Audio:\s*(.*)", re.DOTALL)
_WORD = re.compile(r"\w+(?:['’\-]\w+)*")
# Written without spaces; about two characters are one spoken word.
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\u0e00-\u0e7f]")


_MAX_CHECKED_LENGTH = 5 * MAX_PROMPT_LENGTH
"""Characters; of a longer prompt only the length is said, and it is not taken apart."""


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    """The model would be given something else than was meant."""
    WARNING = "warning"
    HINT = "hint"


@dataclass(frozen=True)
class Finding:
    """Something about a prompt that people should know."""

    severity: Severity
    text: str
    start: int
    """Characters from the beginning of the prompt, as `end`."""
    end: int


@dataclass(frozen=True)
class PromptParts:
    """A prompt taken apart."""

    scene: str
    """Everything but the audio description; speech is still in it, with its tags."""
    speech: tuple[str, ...]
    """What is spoken, in order, without tags."""
    audio: str
    """The audio description without its tag; empty if there is none."""


class PaceLevel(StrEnum):
    """How fast people would have to speak."""

    SILENT = "silent"
    CALM = "calm"
    FAST = "fast"
    TOO_MUCH = "too much"


@dataclass(frozen=True)
class SpeechPace:
    """The words of a prompt against the length of its clip."""

    words: int
    seconds: float
    pace: PaceLevel
    text: str
    """A sentence for people."""

    @property
    def severity(self) -> Severity | None:
        """How much it matters; None if people can speak that calmly."""
        return {PaceLevel.FAST: Severity.WARNING, PaceLevel.TOO_MUCH: Severity.ERROR}.get(self.pace)


def parse_prompt(prompt: str) -> PromptParts:
    """Scene, speech and audio description; what is not closed stays in the scene."""
    if len(prompt) > _MAX_CHECKED_LENGTH:
        return PromptParts(prompt, (), "")
    found = _find_audcap(prompt) or _AUDIO.search(prompt)
    scene, audio = prompt, ""
    if found:
        scene, audio = f"{prompt[: found.start()].rstrip()} {prompt[found.end() :].lstrip()}", found[1].strip()
    spoken = tuple(text for match in _SPEECH.finditer(scene) if (text := match[1].strip()))
    return PromptParts(scene.strip(), spoken, audio)


def join_prompt(scene: str, audio: str, tag: AudioTag) -> str:
    """A scene and an audio description as one prompt; without a description, no tag."""
    return " ".join(filter(None, [scene.strip(), tag.wrap(audio.strip()) if audio.strip() else ""]))


def rows_to_text(rows: Iterable[tuple[str, str]]) -> str:
    """Speaker rows (who and how, what is said) as prompt text; rows in which nothing is said are left out.

    `[("The man says", "Hello.")]` is `The man says, <S>Hello.<E>`. Tags within a row are removed: they would end it.
    """
    lines = []
    for who, said in rows:
        who, said = (" ".join(_TAG.sub(" ", text).split()) for text in (who, said))
        if said:
            lines.append(f"{who.rstrip(' ,:')}, <S>{said}<E>" if who.rstrip(" ,:") else f"<S>{said}<E>")
    return " ".join(lines)


def text_to_rows(prompt: str) -> list[tuple[str, str]]:
    """The speaker rows in a prompt: for each speech the sentence before it, from the last full stop or speech on."""
    if len(prompt) > _MAX_CHECKED_LENGTH:
        return []
    scene = parse_prompt(prompt).scene
    rows, end = [], 0
    for match in _SPEECH.finditer(scene):
        before = re.split(r"(?<=[.!?])\s+", scene[end : match.start()].strip())[-1]
        rows.append((_TAG.sub(" ", before).strip().rstrip(" ,:"), match[1].strip()))
        end = match.end()
    return rows


def check_prompt(prompt: str, tag: AudioTag) -> list[Finding]:
    """Everything worth knowing about a prompt for a variant with this tag, in the order of the text."""
    if len(prompt) > _MAX_CHECKED_LENGTH:
        return _check_length(prompt)
    findings = [*_check_length(prompt), *_check_speech(prompt), *_check_audcap(prompt)]
    findings += _check_audio_place(prompt) + _check_tag(prompt, tag)
    return sorted(findings, key=lambda finding: (finding.start, finding.end))


def prompt_warnings(prompt: str, tag: AudioTag, seconds: float) -> tuple[str, ...]:
    """Sentences that are worth reading before a clip of `seconds` is made from a prompt; hints are left out."""
    findings = [finding.text for finding in check_prompt(prompt, tag) if finding.severity is not Severity.HINT]
    pace = speech_pace(prompt, seconds)
    return (*findings, f"Speech: {pace.text}") if pace.severity else tuple(findings)


def speech_pace(speech: str | Sequence[str], seconds: float) -> SpeechPace:
    """How fast `speech` (a prompt, or its speech parts) has to be spoken in a clip of `seconds`."""
    parts = parse_prompt(speech).speech if isinstance(speech, str) else speech
    words = sum(count_words(part) for part in parts)
    rate = words / seconds
    if not words:
        return SpeechPace(0, seconds, PaceLevel.SILENT, "Nobody speaks.")
    much = f"{words} word{'' if words == 1 else 's'} in {seconds:.0f} s, {rate:.1f} a second"
    if rate <= CALM_PACE:
        return SpeechPace(words, seconds, PaceLevel.CALM, f"{much}: a calm pace.")
    if rate <= FAST_PACE:
        return SpeechPace(words, seconds, PaceLevel.FAST, f"{much}: they speak fast.")
    most = int(FAST_PACE * seconds)
    return SpeechPace(words, seconds, PaceLevel.TOO_MUCH, f"{much}: too much; shorten it to about {most} words.")


def count_words(text: str) -> int:
    """Spoken words; in scripts without spaces, two characters count as one."""
    unspaced = len(_UNSPACED.findall(text))
    return len(_WORD.findall(_UNSPACED.sub(" ", text))) + (unspaced + 1) // 2


def _find_audcap(prompt: str) -> re.Match[str] | None:
    # Without an end, the expression would look for one from every beginning.
    return _AUDCAP.search(prompt) if "<ENDAUDCAP>" in prompt[prompt.find("<AUDCAP>") + 1 :] else None


def _check_length(prompt: str) -> list[Finding]:
    over = len(prompt) - MAX_PROMPT_LENGTH
    if over <= 0:
        return []
    sentence = f"The prompt is {over} characters too long; shorten it to {MAX_PROMPT_LENGTH}."
    return [Finding(Severity.ERROR, sentence, MAX_PROMPT_LENGTH, len(prompt))]


def _check_speech(prompt: str) -> list[Finding]:
    findings: list[Finding] = []
    opened: re.Match[str] | None = None
    for match in re.finditer(r"<S>|<E>", prompt):
        if match[0] == "<S>":
            if opened:
                findings.append(_error("This speech is not closed; write <E> where it ends.", opened))
            opened = match
        elif opened is None:
            findings.append(_error("This <E> closes no speech; write <S> where the speech begins.", match))
        else:
            if not prompt[opened.end() : match.start()].strip():
                sentence = "This speech is empty; write what is said, or remove it."
                findings.append(Finding(Severity.WARNING, sentence, opened.start(), match.end()))
            opened = None
    if opened:
        findings.append(_error("This speech is not closed; write <E> where it ends.", opened))
    return findings


def _check_audcap(prompt: str) -> list[Finding]:
    findings: list[Finding] = []
    opened: re.Match[str] | None = None
    descriptions = 0
    for match in re.finditer(r"<AUDCAP>|<ENDAUDCAP>", prompt):
        if match[0] == "<AUDCAP>":
            if opened:
                findings.append(_error("This audio description is not closed; write <ENDAUDCAP> at its end.", opened))
            opened, descriptions = match, descriptions + 1
            if descriptions == 2:
                sentence = "There is a second audio description; put both into one, at the end."
                findings.append(Finding(Severity.WARNING, sentence, *match.span()))
        elif opened is None:
            findings.append(_error("This <ENDAUDCAP> closes nothing; write <AUDCAP> where the sound begins.", match))
        else:
            if not prompt[opened.end() : match.start()].strip():
                sentence = "The audio description is empty; write how the clip sounds, or remove it."
                findings.append(Finding(Severity.WARNING, sentence, opened.start(), match.end()))
            opened = None
    if opened:
        findings.append(_error("This audio description is not closed; write <ENDAUDCAP> at its end.", opened))
    return findings


def _check_audio_place(prompt: str) -> list[Finding]:
    closed = _find_audcap(prompt)
    if closed and prompt[closed.end() :].strip():
        sentence = "The audio description belongs at the end; move what follows before it."
        return [Finding(Severity.WARNING, sentence, *closed.span())]
    plain = None if closed else _AUDIO.search(prompt)
    if plain and (speech := re.search("<S>", plain[1])):
        # Everything after `Audio:` is audio description, speech included.
        start = plain.start(1) + speech.start()
        sentence = "Speech stands in the audio description; move the description to the end."
        return [Finding(Severity.WARNING, sentence, start, start + len("<S>"))]
    if not closed and not plain and "AUDCAP>" not in prompt and prompt.strip():
        sentence = "There is no audio description; say at the end how the clip sounds."
        return [Finding(Severity.HINT, sentence, len(prompt), len(prompt))]
    return []


def _check_tag(prompt: str, tag: AudioTag) -> list[Finding]:
    match = _AUDIO.search(prompt) if tag is AudioTag.AUDCAP else _find_audcap(prompt)
    if match is None:
        return []
    wanted = tag.wrap("…")
    sentence = f"The audio description has the tag of other variants; it will be converted to {wanted}"
    return [Finding(Severity.HINT, sentence + ("." if tag is AudioTag.AUDCAP else ""), *match.span())]


def _error(sentence: str, match: re.Match[str]) -> Finding:
    return Finding(Severity.ERROR, sentence, *match.span())
