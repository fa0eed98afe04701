"""The prompt and the values of the three components that hold it: the scene, the cues and the sound."""

from typing import Any

from ovi_studio.core.prompt_composition import Composition, compose, format_cues, parse_cues
from ovi_studio.core.prompts import AudioTag


def write_prompt(prompt: str) -> list[Any]:
    """Return the values of `CreateForm.written` for a prompt; one that cannot be taken apart is edited as text."""
    parts = compose(prompt)
    if parts is None:
        return [prompt, {"raw": True, "cues": []}, ""]
    return [parts.scene, {"raw": False, "cues": format_cues(parts.cues)}, parts.sound]


def written_text(prompt: str | None, cues: Any, sound: str | None, tag: AudioTag) -> str:
    """Return the prompt that the values of `CreateForm.written` stand for."""
    given = cues if isinstance(cues, dict) else {}
    if given.get("raw"):
        return prompt or ""
    return Composition(prompt or "", parse_cues(given.get("cues")), sound or "").text(tag)


def typed_text(accepted: Any, prompt: str) -> str:
    """Return what was typed before a suggestion was accepted; empty if the prompt has become another one since."""
    given = accepted if isinstance(accepted, dict) else {}
    before, after = given.get("before"), given.get("after")
    if not isinstance(before, str) or not isinstance(after, str):
        return ""
    words = set(after.split())
    return before if 2 * len(words & set(prompt.split())) >= len(words) else ""


def splits(prompt: str | None, cues: Any) -> bool:
    """Whether the text in the scene's field has tags that can become rows and a sound."""
    if isinstance(cues, dict) and cues.get("cues"):
        return False
    parts = compose(prompt or "")
    return parts is not None and bool(parts.cues or parts.sound)
