"""What a chat model is told: the format of the variant's prompts, and what of a prompt it must keep."""

from ovi_studio.core.prompt_check import CALM_PACE
from ovi_studio.core.variants import Variant
from ovi_studio.services.prompt_helper.chat import Message

_INSTRUCTIONS = """\
You rewrite prompts for a model that makes clips with picture and sound. Answer with the rewritten prompt alone: no \
introduction, no explanation, no quotation marks around it, no lists, no Markdown.

The form of a prompt:
1. First what is seen, in plain sentences in the present tense: who and what is there, how it looks, what happens, the \
place, the light, the camera. The clip is {seconds:.0f} seconds long and shows one scene without cuts.
2. What somebody says stands where it is said, after a few words about who speaks and how, as in: \
The old man smiles and says, <S>Good morning.<E> The words are between <S> and <E>. In {seconds:.0f} seconds, at most \
{words} words can be said calmly.
3. At the end what is heard, as in: {sound}

Rules:
- Keep everything that the author asks for; add what makes it concrete. Between 40 and 120 words.
- Keep what is said word for word, in its own language. Add no speech to a prompt in which nobody speaks.
- Keep everything in curly braces, such as {{red|blue}}, and words between double underscores, such as __weather__, \
exactly as they are and as often as they are there.
- Write the description in the language of the prompt."""


def instructions(variant: Variant) -> Message:
    """The system message for prompts of a variant."""
    sound = variant.audio_tag.wrap("Rain on leaves, distant thunder, a calm male voice.")
    text = _INSTRUCTIONS.format(seconds=variant.seconds, words=int(CALM_PACE * variant.seconds), sound=sound)
    return Message("system", text)


def question(prompt: str, picture: bytes | None) -> Message:
    """The message that holds the prompt, and the first frame if the model is to see it."""
    if picture is None:
        return Message("user", f"Rewrite this prompt:\n{prompt}")
    wish = f"Rewrite this prompt for it:\n{prompt}" if prompt else "Write a prompt for it."
    return Message("user", f"The clip begins with this picture. {wish}", picture)


def correction(problem: str) -> Message:
    """The message that asks once more."""
    return Message("user", f"This does not fit: {problem} Write the whole prompt again, and only the prompt.")
