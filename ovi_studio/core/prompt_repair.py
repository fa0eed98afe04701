"""The right form of a prompt whose tags are wrong: what a person most probably meant, for them to read and accept.

Nothing here is applied by itself: the page offers it as a button, the API and the command line name it in a warning.
"""

import re
from pathlib import Path

from ovi_studio.core.errors import JobError
from ovi_studio.core.prompt_check import Severity, check_prompt, join_prompt, speech_pace
from ovi_studio.core.prompt_patterns import WILDCARDS_DIRECTORY, expand_prompt
from ovi_studio.core.prompt_quotes import last_verb, spoken_quotations
from ovi_studio.core.prompt_spelling import FoundTag, Mark, find_tags, spelt, without_tags
from ovi_studio.core.prompts import MAX_PROMPT_LENGTH, AudioTag

_MAX_PASSES = 8
"""What is taken out can leave another tag; a prompt that is still wrong then is left to its author."""
_AUDIO_MARKS = (Mark.AUDCAP, Mark.AUDCAP_END, Mark.AUDIO)
_SPEECH_MARKS = (Mark.SPEECH, Mark.SPEECH_END)
_SENTENCE = re.compile(r"(?<=[.!?…。！？])\s+")
_SPEECH = re.compile(r"<S>(.*?)<E>", re.DOTALL)
_QUOTED = re.compile(r"""\s*["“](.+?)["”]""", re.DOTALL)


def repaired(prompt: str, tag: AudioTag) -> str:
    """The prompt with its tags in the right form, for a variant with this tag.

    Idempotent. A prompt without errors and warnings is returned as it is, and so is one that is too long.
    """
    form = prompt
    for _ in range(_MAX_PASSES):
        if len(form) > MAX_PROMPT_LENGTH:
            return prompt
        if not _is_wrong(form, tag):
            return form
        scene, audio = _take_audio(spelt(form))
        form = join_prompt(_tidy(_tag_quotations(_pair_speech(scene))), _tidy(audio), tag)
    return prompt if _is_wrong(form, tag) else form


def repaired_pattern(pattern: str, tag: AudioTag, wildcards: Path = WILDCARDS_DIRECTORY) -> str:
    """The pattern that stands for the repaired prompts of a pattern; the pattern itself if there is no such one."""
    form = repaired(pattern, tag)
    if form == pattern:
        return pattern
    try:
        wanted = dict.fromkeys(repaired(prompt, tag) for prompt in expand_prompt(pattern, wildcards))
        return form if expand_prompt(form, wildcards) == list(wanted) else pattern
    except JobError:
        return pattern


def prompt_warnings(prompt: str, tag: AudioTag, seconds: float) -> tuple[str, ...]:
    """Warnings and errors to show before a clip of `seconds` is made from a prompt, and its right form.

    Hints are left out.
    """
    found = [finding.text for finding in check_prompt(prompt, tag) if finding.severity is not Severity.HINT]
    pace = speech_pace(prompt, seconds)
    found += [f"Speech: {pace.text}"] if pace.severity else []
    form = repaired(prompt, tag)
    return (*dict.fromkeys(found), *([f"Repaired: {form}"] if form != prompt else []))


def _is_wrong(prompt: str, tag: AudioTag) -> bool:
    return any(finding.severity is not Severity.HINT for finding in check_prompt(prompt, tag))


# The audio description


def _take_audio(text: str) -> tuple[str, str]:
    """The scene, and all audio descriptions as one."""
    scene, descriptions = "", list[str]()
    tags = [tag for tag in find_tags(text) if tag.mark in _AUDIO_MARKS]
    opened: FoundTag | None = None
    start = 0

    def close(end: int, *, exact: bool) -> None:
        nonlocal scene, opened
        description, rest = (_without_speech if exact else _before_speech)(text[start:end])
        descriptions.append(description)
        scene, opened = f"{scene.rstrip()} {rest}", None

    for number, tag in enumerate(tags):
        if tag.mark is Mark.AUDCAP_END:
            if opened:
                close(tag.start, exact=True)
            else:
                scene, description = _split_last_sentence(f"{scene} {text[start : tag.start].lstrip()}")
                descriptions.append(description)
            start = tag.end
            continue
        following = tags[number + 1].mark if number + 1 < len(tags) else None
        if opened and opened.mark is Mark.AUDCAP and tag.mark is Mark.AUDIO and following is Mark.AUDCAP_END:
            continue  # a label inside a description
        if opened:
            close(tag.start, exact=False)
        else:
            scene = f"{scene.rstrip()} {text[start : tag.start].lstrip()}"
        opened, start = tag, tag.end
    if opened:
        close(len(text), exact=False)
    else:
        scene = f"{scene.rstrip()} {text[start:].lstrip()}"
    return scene.strip(), _join_descriptions(descriptions)


def _without_speech(description: str) -> tuple[str, str]:
    """A closed description without the speech inside it, and that speech."""
    spoken = " ".join(match[0] for match in _SPEECH.finditer(description) if match[1].strip())
    return without_tags(_SPEECH.sub(" ", description)), spoken


def _before_speech(description: str) -> tuple[str, str]:
    """A description whose end is not marked, up to the sentence in which somebody speaks, and the rest."""
    marks = [tag for tag in find_tags(description) if tag.mark in _SPEECH_MARKS]
    if not marks:
        return description, ""
    first = marks[0]
    if first.mark is Mark.SPEECH_END:  # taken for the end of the description
        return description[: first.start], description[first.end :]
    before, who = _split_last_sentence(description[: first.start], keep_first=True)
    return without_tags(before), f"{who} {description[first.start :]}"


def _split_last_sentence(text: str, *, keep_first: bool = False) -> tuple[str, str]:
    """Split before the last sentence, and not inside a speech; with `keep_first` a single sentence stays in front."""
    spoken = text.rfind(Mark.SPEECH_END)
    begin = spoken + len(Mark.SPEECH_END) if spoken >= 0 else 0
    ends = [match.end() for match in _SENTENCE.finditer(text, begin) if text[match.end() :].strip()]
    if not ends and keep_first:
        return text, ""
    cut = ends[-1] if ends else begin
    return text[:cut], text[cut:]


def _join_descriptions(descriptions: list[str]) -> str:
    joined, known = "", set[str]()
    for description in (" ".join(one.split()) for one in descriptions):
        if description and description.casefold() not in known:
            known.add(description.casefold())
            joined += f"{'' if joined[-1] in '.!?;,' else ','} {description}" if joined else description
    return joined


# Speech


def _pair_speech(scene: str) -> str:
    """The scene with every speech opened and closed once."""
    marks = [tag for tag in find_tags(scene) if tag.mark in _SPEECH_MARKS]
    edges = [0, *(edge for tag in marks for edge in (tag.start, tag.end)), len(scene)]
    first, *segments = [scene[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]
    done, speech, depth = first, None, 0
    for number, (tag, segment) in enumerate(zip(marks, segments, strict=True)):
        if tag.mark is Mark.SPEECH:
            if speech is None:
                speech = segment
            elif _closes(speech, segment):
                done, speech = done + _spoken(speech) + segment, None
            elif [later.mark for later in marks[number + 1 : number + 3]] == [Mark.SPEECH_END] * 2:
                speech, depth = f"{speech} {segment}", depth + 1
            else:
                said, who = _split_last_sentence(speech, keep_first=True)
                done, speech = f"{done}{_spoken(said)} {who}", segment
        elif speech is None:
            before, said = _split_speaker(done)
            done = before + _spoken(said) + segment
        elif depth:
            speech, depth = f"{speech} {segment}", depth - 1
        else:
            done, speech = done + _spoken(speech) + segment, None
    return done if speech is None else done + _close_last(speech)


def _spoken(text: str) -> str:
    """Speech in its tags, with the spaces at its ends outside; nothing for an empty one."""
    said = text.strip()
    if not said:
        return " "
    lead, trail = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return f"{lead}{Mark.SPEECH}{said}{Mark.SPEECH_END}{trail}"


def _closes(speech: str, after: str) -> bool:
    """Whether a second `<S>` is where the speech ends: it is beside the speech, and not beside what follows."""
    return bool(speech.strip()) and not speech[-1].isspace() and (not after or not after[0].isalnum())


def _split_speaker(text: str) -> tuple[str, str]:
    """What introduces the speech at the end of a text, and that speech."""
    before, sentence = _split_last_sentence(text)
    begin = last_verb(sentence)
    if begin is None or not sentence[begin:].strip():
        return before, sentence
    return before + sentence[:begin], sentence[begin:].strip().strip('"“”') + " "


def _close_last(speech: str) -> str:
    """The last speech, which was never closed: the quotation it begins with, or all up to the end of the line."""
    if quoted := _QUOTED.match(speech):
        return f"{_spoken(quoted[1])}{speech[quoted.end() :]}"
    said, line_end, rest = speech.lstrip().partition("\n")
    return f"{_spoken(said)}{line_end}{rest}"


def _tag_quotations(scene: str) -> str:
    """The scene with quoted speech in tags."""
    pieces, end = [], 0
    for quotation in spoken_quotations(scene):
        pieces += [scene[end : quotation.start], f"{Mark.SPEECH}{quotation.said}{Mark.SPEECH_END}"]
        end = quotation.end
    return "".join([*pieces, scene[end:]])


def _tidy(text: str) -> str:
    """The text without the double spaces that removed tags leave."""
    return re.sub(r"[ \t]{2,}", " ", text).strip()
