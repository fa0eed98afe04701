"""A second text for audio alone within one pass: what remains of a negative pass whose video is not computed.

Audio needs the video tokens of every block, so it cannot be computed by itself. A branch attends to the video tokens of
the pass that it belongs to, with the keys and values that this pass computes anyway, and so costs no more than its own
few hundred tokens. Its audio follows that of the pass along the batch, as a second half.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ovi_studio.models.fusion_block import KeyValue, Modulation, Stream


class AudioBranch(NamedTuple):
    """A text for audio alone."""

    text: Sequence[KeyValue]
    """Keys and values of the audio tower for every block."""
    skip_block: int | None = None
    """Depth of the block that the branch skips (skip-layer guidance); the pass itself goes through it."""


def with_branch(x: Tensor, branch: AudioBranch | None) -> Tensor:
    """Repeat tokens or modulation rows (batch, ...) for the branch, if there is one."""
    return x if branch is None else torch.cat([x, x])


def block_audio(
    audio: Stream, text: KeyValue, branch: AudioBranch | None, tokens: Tensor, depth: int
) -> tuple[Stream, KeyValue]:
    """Return the input of a block for `tokens`: those that go through it, and their text.

    Args:
        audio: the stream of the pass without its branch, whose tokens are ignored.
    """
    if branch is None:
        return audio._replace(tokens=tokens), text
    if depth == branch.skip_block:
        return audio._replace(tokens=tokens.chunk(2)[0]), text
    rows = Modulation(with_branch(audio.modulation.rows, branch), audio.modulation.boundary)
    both = (torch.cat([own, other]) for own, other in zip(text, branch.text[depth], strict=True))
    return audio._replace(tokens=tokens, modulation=rows), KeyValue(*both)


def audio_after(new: Tensor, branch: AudioBranch | None, tokens: Tensor, depth: int) -> Tensor:
    """Return the tokens after a block: its result, and what skipped it."""
    return torch.cat([new, tokens.chunk(2)[1]]) if branch and depth == branch.skip_block else new
