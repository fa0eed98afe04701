"""Prompts as people write them: any number of a scene's properties in any order, and words that the model cannot know.

What a prompt does not name is what is usual with the rest (`usual`). One prompt in eight, by its sentence pattern or by
its pair of noun and verb, is never trained on. Imports no torch.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ovi_studio.core.prompts import AudioTag
from ovi_studio.demo import wording
from ovi_studio.demo.captions import caption
from ovi_studio.demo.scenes import Colour, Motion, Scene, Shape, Sound
from ovi_studio.demo.usual import completed

PROPERTIES = ("colour", "shape", "background", "motion", "sound")
_LIKELIHOOD = np.array([3.0, 3.0, 1.2, 2.0, 0.8])
"""How often people name each property, relative to the others."""
_COUNT = (0.17, 0.3, 0.25, 0.16, 0.12)
"""Part of the prompts that name one, two, ... properties."""
_FULL = 0.25
"""Part of the training prompts that are full captions."""
_USUAL = 0.6
"""Part of the prompts with the usual word for a colour or a shape."""
_HELD_OUT = 0.1
"""Part of the sentence patterns, and of the pairs of noun and verb, that is never trained on."""
_BYTE = 20
"""Byte of the hash that decides; with this one, "red ball" and "a red ball" are trained on."""
_SPOKEN_WITH = (Sound.LOW_TONE, Sound.HIGH_TONE, Sound.FOLLOWING_TONE)
"""Speech is answered with a tone."""


@dataclass(frozen=True)
class Prompt:
    """A prompt and its scene."""

    text: str
    named: frozenset[str]
    """The properties of the scene that the text names."""
    scene: Scene
    """The scene that the prompt means, completed by what is usual."""
    keys: tuple[str, ...] = ()
    """The text without the words that name properties, and its noun with its verb."""

    @property
    def is_caption(self) -> bool:
        """Whether it is a full caption."""
        return not self.keys

    @property
    def held_out(self) -> bool:
        """Whether prompts of this kind are never trained on."""
        return any(hashlib.sha256(key.encode()).digest()[_BYTE] < 256 * _HELD_OUT for key in self.keys)


def training_prompt(scene: Scene, random: np.random.Generator) -> Prompt:
    """Return a random prompt, of a kind that may be trained on, which names some properties of a scene."""
    if random.random() < _FULL:
        return full_caption(scene, random)
    return _trained(scene, _draw_named(random, int(random.choice(5, p=_COUNT)) + 1), random)


def exact_prompt(scene: Scene, random: np.random.Generator) -> Prompt:
    """Return a random prompt, of a kind that may be trained on, which means exactly this scene."""
    prompt = training_prompt(scene, random)
    while prompt.scene != scene:
        differing = {name for name in PROPERTIES if getattr(prompt.scene, name) != getattr(scene, name)}
        prompt = _trained(scene, prompt.named | differing, random)
    return prompt


def full_caption(scene: Scene, random: np.random.Generator) -> Prompt:
    """Return a random caption, which names everything but sometimes the sound."""
    text = caption(scene, random)
    named = frozenset(PROPERTIES if AudioTag.AUDCAP.value in text else PROPERTIES[:-1])
    return Prompt(text, named, completed(scene, named))


def unseen_prompt(scene: Scene, random: np.random.Generator, count: int) -> Prompt:
    """Return a random prompt that names `count` properties, of a kind that is never trained on."""
    while True:
        prompt = _Writer(scene, random).write(_draw_named(random, count), extras=False)
        if prompt.held_out:
            return prompt


def _trained(scene: Scene, named: frozenset[str], random: np.random.Generator) -> Prompt:
    while True:
        prompt = _Writer(scene, random).write(named, extras=True)
        if not prompt.held_out:
            return prompt


def _draw_named(random: np.random.Generator, count: int) -> frozenset[str]:
    chosen = random.choice(len(PROPERTIES), count, replace=False, p=_LIKELIHOOD / _LIKELIHOOD.sum())
    return frozenset(PROPERTIES[index] for index in chosen)


def vocabulary() -> tuple[str, ...]:
    """Return every phrase of `wording`; the tokenizer is trained on them."""
    tables = (wording.COLOURS, wording.NOUNS, wording.PLACES, wording.SOUNDS, wording.MOTIONS)
    phrases = [phrase.replace("/", " ") for table in tables for options in table.values() for phrase in options]
    others = (wording.THINGS, wording.SIZES, wording.COUNTS, wording.CREATURES, wording.ADJECTIVES, wording.ADVERBS)
    words = [word for options in (*others, wording.STYLES, wording.REQUESTS, wording.SPOKEN) for word in options]
    return tuple(sorted({*phrases, *words}))


class _Writer:
    """Writes one prompt for a scene, and remembers which of its words name properties."""

    def __init__(self, scene: Scene, random: np.random.Generator) -> None:
        self.scene = scene
        self.random = random
        self.words: dict[str, str] = {}

    def write(self, named: frozenset[str], *, extras: bool) -> Prompt:
        """Write a prompt that names these properties; with `extras` it may ask for things that cannot be made."""
        self.noun = self._noun(named, extras)
        self.verb = self._pick(wording.MOTIONS[self.scene.motion]) if "motion" in named else ""
        extended = extras and self._chance(0.35)
        text = self._form(named, extended)
        if extras:
            text = self._with_speech(self._with_impossible(text, named), named)
        if self._chance(0.4) and text[-1].isalpha() and not text.startswith("<"):
            text += "."
        keys = (self._pattern(text), f"{self.noun}/{self.verb}" if self.noun and self.verb else "")
        scene = completed(self.scene, named, spoken="<S>" in text)
        return Prompt(text[0].upper() + text[1:] if self._chance(0.4) else text, named, scene, keys)

    def _form(self, named: frozenset[str], extended: bool) -> str:
        """Join the parts that name the properties to a prompt."""
        thing, place, sound = self._thing(named, extended), self._place(named), self._sound(named)
        form = self._choose(
            ("tags", "phrase", "sentence", "two sentences", "place first"), (0.24, 0.36, 0.18, 0.1, 0.12)
        )
        if form == "tags":
            return self._tags(named, thing, place, sound, extended)
        if not thing and self.verb:
            thing = "something" if form in ("sentence", "two sentences") else ""
        if form == "two sentences" and thing and (self.verb or place):
            second = " ".join(filter(None, ["It", self._moving("present") if self.verb else "is", place]))
            text = f"{thing}. {second}"
        else:
            kind = "present" if form == "sentence" else self._choose(("progressive", "that", "infinitive", "is"))
            what = " ".join(filter(None, [thing, self._moving(kind) if self.verb else ""]))
            order = [place, what] if form == "place first" else [what, place]
            text = (", " if form == "place first" else " ").join(filter(None, order))
        if extended and text and self._chance(0.35):
            text = f"{self._pick(wording.REQUESTS)} {text}"
        if extended and text and self._chance(0.3):
            text = f"{text}, {self._some(wording.STYLES)}"
        return self._with_sound(text, sound)

    def _tags(self, named: frozenset[str], thing: str, place: str, sound: str, extended: bool) -> str:
        """Return the parts in any order with commas between them."""
        if self._chance(0.5) and {"colour", "shape"} <= named:
            thing = ""
            parts = [self._remember("colour", self._colour()), self.noun]
        else:
            parts = [thing]
        if place and self._chance(0.5):  # without its preposition: "wooden floor"
            place = self._remember("background", place.split(" ", 1)[1])
        parts += [self._moving(self._choose(("progressive", "present"))) if self.verb else "", place]
        if extended:
            parts.append(self._some(wording.STYLES))
        bare = self._chance(0.5)
        if bare:
            parts.append(sound)
        parts = [part for part in parts if part]
        self.random.shuffle(parts)
        return self._with_sound(", ".join(parts), "" if bare else sound)

    def _noun(self, named: frozenset[str], extras: bool) -> str:
        if "shape" in named:
            return self._remember("shape", self._pick_usual(wording.NOUNS[self.scene.shape]))
        return self._some(wording.CREATURES) if extras and self._chance(0.15) else ""

    def _colour(self) -> str:
        return self._pick_usual(wording.COLOURS[self.scene.colour])

    def _thing(self, named: frozenset[str], extended: bool) -> str:
        """Return what the scene shows: "a big red ball", "ball that is red", "something red", "red"."""
        colour = self._remember("colour", self._colour()) if "colour" in named else ""
        before = [self._some(wording.ADJECTIVES)] if extended and self._chance(0.3) else []
        if self._chance(0.08):
            before.append(self._pick(wording.SIZES))
        noun = self.noun
        if not noun:
            if not colour and not before:
                return ""
            if len(named) == 1 and self._chance(0.3):
                return colour  # a single word
            noun = self._pick(wording.THINGS)
            if noun == "something":
                return " ".join([noun, *before, colour]).strip()
        place = self._choose(("before", "that is", "in", "comma", "coloured"), (0.76, 0.06, 0.06, 0.06, 0.06))
        if not colour or place == "before":
            thing = " ".join(filter(None, [*before, colour, noun]))
        else:
            after = {"that is": f"that is {colour}", "in": f"in {colour}", "comma": f", {colour}"}
            thing = " ".join([*before, noun, after.get(place, f"coloured {colour}")]).replace(" ,", ",")
        article = self._choose(("", "a", "the"), (0.4, 0.5, 0.1))
        if article == "a" and thing[0] in "aeiou":
            article = "an"
        return f"{article} {thing}".strip()

    def _moving(self, kind: str) -> str:
        """Return the motion as "bounces", "bouncing", "that bounces", "is bouncing" or "bounce"."""
        infinitive, present, progressive = self.verb.split("/")
        progressive, _, rest = progressive.partition(" ")
        if infinitive.startswith("not "):
            progressive, rest = f"{progressive} {rest}", ""
        words = {"infinitive": infinitive, "present": present, "progressive": progressive}
        words |= {"that": f"that {present}", "is": f"is {progressive}"}
        return self._remember(f"motion {kind}", f"{words[kind]} {rest}".strip())

    def _pattern(self, text: str) -> str:
        """Return the text with the kind of each word that names a property in its place."""
        for kind, phrase in sorted(self.words.items(), key=lambda item: -len(item[1])):
            text = text.replace(phrase, f"[{kind}]")
        return text.rstrip(".")

    def _remember(self, kind: str, phrase: str) -> str:
        if phrase:
            self.words[kind] = phrase
        return phrase

    def _place(self, named: frozenset[str]) -> str:
        place = self._pick(wording.PLACES[self.scene.background]) if "background" in named else ""
        return self._remember("background", place)

    def _sound(self, named: frozenset[str]) -> str:
        return self._remember("sound", self._pick(wording.SOUNDS[self.scene.sound]) if "sound" in named else "")

    def _with_sound(self, text: str, sound: str) -> str:
        """Add a description of the sound, or sometimes an empty one."""
        if not sound:
            if not self._chance(0.05):
                return text
            return f"{text} {self._pick([tag.wrap('') for tag in AudioTag])}".strip()
        form = self._choose(("audcap", "audio", "with", "comma", "sound"), (0.35, 0.15, 0.25, 0.15, 0.1))
        tagged = {
            "audcap": AudioTag.AUDCAP.wrap(sound),
            "audio": AudioTag.AUDIO.wrap(sound),
            "sound": f"sound: {sound}",
        }
        if not text:
            return tagged.get(form, sound)
        joined = {"with": f" with {sound}", "comma": f", {sound}"}
        return text + joined.get(form, f" {tagged.get(form, sound)}")

    def _with_impossible(self, text: str, named: frozenset[str]) -> str:
        """Sometimes ask for several objects, or for a second one of another kind: the scene shows the first."""
        if "shape" not in named or not self._chance(0.1) or f" {self.noun}" not in f" {text}":
            return text
        if self._chance(0.4):
            several = f"{self._pick(wording.COUNTS)} {self.noun}s"
            return text.replace(f"a {self.noun}", several).replace(self.noun, f"{self.noun}s", 1)
        other = f"{self._pick(list(Colour))} {self._pick(list(Shape))}"
        joint = self._pick(["and a", "next to a", "with a", "and another", "or a"])
        return text.replace(self.noun, f"{self.noun} {joint} {other}", 1) if "colour" in named else text

    def _with_speech(self, text: str, named: frozenset[str]) -> str:
        """Sometimes add a spoken line, unless the scene that is named has another sound than a tone."""
        silent = self.scene.sound not in _SPOKEN_WITH if "sound" in named else self.scene.motion is Motion.BOUNCE
        if (silent and named & {"sound", "motion"}) or not self._chance(0.06):
            return text
        line = f"<S>{self._some(wording.SPOKEN)}<E>"
        says = self._pick(["says", "and says", "saying", ""])
        return f"{text.rstrip('.')} {says} {line}".replace("  ", " ")

    def _some(self, words: Sequence[str]) -> str:
        """Return one of these words, or letters that mean nothing."""
        if self._chance(0.15):
            letters = "abcdefghijklmnoprstuvwy"
            return "".join(self._pick(letters) for _ in range(int(self.random.integers(3, 9))))
        return self._pick(words)

    def _pick_usual(self, words: Sequence[str]) -> str:
        return words[0] if self._chance(_USUAL) else self._pick(words)

    def _pick(self, words: Sequence[str]) -> str:
        return words[int(self.random.integers(len(words)))]

    def _choose(self, options: Sequence[str], likelihood: Sequence[float] | None = None) -> str:
        return options[int(self.random.choice(len(options), p=likelihood))]

    def _chance(self, likelihood: float) -> bool:
        return bool(self.random.random() < likelihood)
