"""Analysis of Ovi's prompt format for the editor: parts, speaker rows, findings and the pace of speech.

Pure functions over text; nothing here changes the model's input. Speech is in `<S>...<E>`, the audio description at the
end, in `<AUDCAP>...<ENDAUDCAP>` or after `Audio:`. Tags are case-sensitive, as in the official code; other spellings
are found (`prompt_spelling`) and reported, and `prompt_repair` puts them right.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ovi_studio.core.prompt_quotes import spoken_quotations
from ovi_studio.core.prompt_spelling import FoundTag, Mark, find_tags, without_tags
from ovi_studio.core.prompts import MAX_PROMPT_LENGTH, AudioTag

CALM_PACE = 2.5
"""Words a second. A rule of thumb: English is read aloud at 150 to 160 words a minute (audio books), which is 2.5 to
2.7; emotional speech with pauses is slower. The Ovi paper gives no figure for the rate at which speech breaks down."""
FAST_PACE = 4.0
"""Words a second. A rule of thumb: about 240 words a minute, the rate of a slow auctioneer; beyond it words are slurred
or cut off at the end of the clip."""

_SPEECH = re.compile(r"<S>((?:(?!<S>).)*?)<E>", re.DOTALL)
_AUDCAP = re.compile(r"<AUDCAP>(.*?)<ENDAUDCAP>", re.DOTALL)
_AUDIO = re.compile(r"Audio:\s*(.*)", re.DOTALL)
_WORD = re.compile(r"\w+(?:['’\-]\w+)*")
# Scripts without spaces; about two characters correspond to one spoken word.
UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\u0e00-\u0e7f]")


_MAX_CHECKED_LENGTH = 5 * MAX_PROMPT_LENGTH
"""Characters; for a longer prompt only the length is reported, and it is not parsed."""


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    """The model would get something other than what was meant."""
    WARNING = "warning"
    HINT = "hint"


@dataclass(frozen=True)
class Finding:
    """A remark about a prompt."""

    severity: Severity
    text: str
    start: int
    """Offset of the first character in the prompt."""
    end: int
    """Offset after the last character."""


@dataclass(frozen=True)
class PromptParts:
    """The parts of a prompt."""

    scene: str
    """Everything except the audio description; includes speech with its tags."""
    speech: tuple[str, ...]
    """The spoken texts, in order, without tags."""
    audio: str
    """The audio description without its tag; empty if there is none."""


class PaceLevel(StrEnum):
    """How fast the speakers would have to talk."""

    SILENT = "silent"
    CALM = "calm"
    FAST = "fast"
    TOO_MUCH = "too much"


@dataclass(frozen=True)
class SpeechPace:
    """The number of spoken words in relation to the length of the clip."""

    words: int
    seconds: float
    pace: PaceLevel
    text: str
    """A sentence for the user."""

    @property
    def severity(self) -> Severity | None:
        """How much it matters; None if the pace is calm."""
        return {PaceLevel.FAST: Severity.WARNING, PaceLevel.TOO_MUCH: Severity.ERROR}.get(self.pace)


def parse_prompt(prompt: str) -> PromptParts:
    """Split into scene, speech and audio description; unclosed tags stay in the scene."""
    if len(prompt) > _MAX_CHECKED_LENGTH:
        return PromptParts(prompt, (), "")
    found = _find_audcap(prompt) or _AUDIO.search(prompt)
    scene, audio = prompt, ""
    if found:
        scene, audio = f"{prompt[: found.start()].rstrip()} {prompt[found.end() :].lstrip()}", found[1].strip()
    spoken = tuple(text for match in _SPEECH.finditer(scene) if (text := match[1].strip()))
    return PromptParts(scene.strip(), spoken, audio)


def join_prompt(scene: str, audio: str, tag: AudioTag) -> str:
    """Join a scene and an audio description; an empty description adds no tag."""
    return " ".join(filter(None, [scene.strip(), tag.wrap(audio.strip()) if audio.strip() else ""]))


def rows_to_text(rows: Iterable[tuple[str, str]]) -> str:
    """Speaker rows (who and how, what is said) as prompt text; rows without speech are left out.

    `[("The man says", "Hello.")]` is `The man says, <S>Hello.<E>`. Tags inside a row are removed: they would end it.
    """
    lines = []
    for who, said in rows:
        who, said = (" ".join(without_tags(text).split()) for text in (who, said))
        if said:
            lines.append(f"{who.rstrip(' ,:')}, <S>{said}<E>" if who.rstrip(" ,:") else f"<S>{said}<E>")
    return " ".join(lines)


def text_to_rows(prompt: str) -> list[tuple[str, str]]:
    """The speaker rows in a prompt: each speech with the text before it, back to the last full stop or speech."""
    if len(prompt) > _MAX_CHECKED_LENGTH:
        return []
    scene = parse_prompt(prompt).scene
    rows, end = [], 0
    for match in _SPEECH.finditer(scene):
        before = re.split(r"(?<=[.!?])\s+", scene[end : match.start()].strip())[-1]
        rows.append((without_tags(before).strip().rstrip(" ,:"), match[1].strip()))
        end = match.end()
    return rows


def check_prompt(prompt: str, tag: AudioTag) -> list[Finding]:
    """All findings about a prompt for a variant with this tag, in text order."""
    if len(prompt) > _MAX_CHECKED_LENGTH:
        return _check_length(prompt)
    tags = find_tags(prompt)
    findings = [*_check_length(prompt), *_check_spelling(tags, tag), *_check_speech(prompt, tags)]
    findings += [*_check_audio(prompt, tags), *_check_audio_place(prompt, tags), *_check_tag(prompt, tag)]
    # A prompt that is too long is refused anyway, and looking for quotations takes longest.
    findings += _check_quotations(prompt) if len(prompt) <= MAX_PROMPT_LENGTH else []
    return sorted(findings, key=lambda finding: (finding.start, finding.end))


def speech_pace(speech: str | Sequence[str], seconds: float) -> SpeechPace:
    """The pace at which `speech` (a prompt, or its speech parts) has to be spoken in a clip of `seconds`."""
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
    """The number of spoken words; in scripts without spaces, two characters count as one word."""
    unspaced = len(UNSPACED.findall(text))
    return len(_WORD.findall(UNSPACED.sub(" ", text))) + (unspaced + 1) // 2


def _find_audcap(prompt: str) -> re.Match[str] | None:
    # Without an end tag, the expression would search for one from every start tag.
    return _AUDCAP.search(prompt) if "<ENDAUDCAP>" in prompt[prompt.find("<AUDCAP>") + 1 :] else None


def _check_length(prompt: str) -> list[Finding]:
    over = len(prompt) - MAX_PROMPT_LENGTH
    if over <= 0:
        return []
    sentence = f"The prompt is {over} characters too long; shorten it to {MAX_PROMPT_LENGTH}."
    return [Finding(Severity.ERROR, sentence, MAX_PROMPT_LENGTH, len(prompt))]


def _check_spelling(tags: Sequence[FoundTag], wanted: AudioTag) -> list[Finding]:
    findings = []
    for found in tags:
        if found.misspelt:
            form = str(found.mark) if found.mark in (Mark.SPEECH, Mark.SPEECH_END) else wanted.wrap("…")
            stop = "" if form.endswith("…") else "."
            findings.append(_error(f"“{found.text}” is not a tag that the model knows; write {form}{stop}", found))
    return findings


def _check_speech(prompt: str, tags: Sequence[FoundTag]) -> list[Finding]:
    findings: list[Finding] = []
    opened: FoundTag | None = None
    for tag in tags:
        if tag.mark is Mark.SPEECH:
            if opened:
                findings.append(_error("This speech is not closed; write <E> where it ends.", opened))
            opened = tag
        elif tag.mark is not Mark.SPEECH_END:
            continue
        elif opened is None:
            findings.append(_error("This <E> closes no speech; write <S> where the speech begins.", tag))
        else:
            if not prompt[opened.end : tag.start].strip():
                sentence = "This speech is empty; write what is said, or remove it."
                findings.append(Finding(Severity.WARNING, sentence, opened.start, tag.end))
            opened = None
    if opened:
        findings.append(_error("This speech is not closed; write <E> where it ends.", opened))
    return findings


def _check_audio(prompt: str, tags: Sequence[FoundTag]) -> list[Finding]:
    findings: list[Finding] = []
    opened: FoundTag | None = None
    descriptions = [tag for tag in tags if tag.mark in (Mark.AUDCAP, Mark.AUDIO)]
    for tag in [tag for tag in tags if tag.mark in (Mark.AUDCAP, Mark.AUDCAP_END)]:
        if tag.mark is Mark.AUDCAP:
            if opened:
                findings.append(_error("This audio description is not closed; write <ENDAUDCAP> at its end.", opened))
            opened = tag
        elif opened is None:
            findings.append(_error("This <ENDAUDCAP> closes nothing; write <AUDCAP> where the sound begins.", tag))
        else:
            if not prompt[opened.end : tag.start].strip():
                findings.append(_empty_description(opened.start, tag.end))
            opened = None
    if opened:
        findings.append(_error("This audio description is not closed; write <ENDAUDCAP> at its end.", opened))
    if descriptions and descriptions[-1].mark is Mark.AUDIO and not prompt[descriptions[-1].end :].strip():
        findings.append(_empty_description(descriptions[-1].start, len(prompt)))
    if len(descriptions) > 1:
        second = descriptions[1]
        sentence = "There is a second audio description; put both into one, at the end."
        findings.append(Finding(Severity.WARNING, sentence, second.start, second.end))
    return findings


def _empty_description(start: int, end: int) -> Finding:
    sentence = "The audio description is empty; write how the clip sounds, or remove it."
    return Finding(Severity.WARNING, sentence, start, end)


def _check_audio_place(prompt: str, tags: Sequence[FoundTag]) -> list[Finding]:
    first = next((tag for tag in tags if tag.mark in (Mark.AUDCAP, Mark.AUDIO)), None)
    if first is None:
        if prompt.strip() and not any(tag.mark is Mark.AUDCAP_END for tag in tags):
            sentence = "There is no audio description; say at the end how the clip sounds."
            return [Finding(Severity.HINT, sentence, len(prompt), len(prompt))]
        return []
    later = [tag for tag in tags if tag.start >= first.end]
    end = next((tag for tag in later if tag.mark is Mark.AUDCAP_END), None)
    inside = [tag for tag in later if tag.mark is Mark.SPEECH and (end is None or tag.start < end.start)]
    if inside:
        sentence = "Speech is inside the audio description; move the description to the end."
        return [Finding(Severity.WARNING, sentence, inside[0].start, inside[0].end)]
    if end and prompt[end.end :].strip() and not any(tag.mark in (Mark.AUDCAP, Mark.AUDIO) for tag in later):
        sentence = "The audio description belongs at the end; move the text after it to before it."
        return [Finding(Severity.WARNING, sentence, first.start, end.end)]
    return []


def _check_quotations(prompt: str) -> list[Finding]:
    sentence = "This quotation is not spoken; if somebody says it, write it as <S>…<E>."
    return [Finding(Severity.WARNING, sentence, found.start, found.end) for found in spoken_quotations(prompt)]


def _check_tag(prompt: str, tag: AudioTag) -> list[Finding]:
    match = _AUDIO.search(prompt) if tag is AudioTag.AUDCAP else _find_audcap(prompt)
    if match is None:
        return []
    wanted = tag.wrap("…")
    sentence = f"The audio description uses the tag of other variants; it will be converted to {wanted}"
    return [Finding(Severity.HINT, sentence + ("." if tag is AudioTag.AUDCAP else ""), *match.span())]


def _error(sentence: str, tag: FoundTag) -> Finding:
    return Finding(Severity.ERROR, sentence, tag.start, tag.end)
