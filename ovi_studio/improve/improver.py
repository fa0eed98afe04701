"""`ClipImprover`: makes a stored clip larger and smoother, and writes the result as a clip of its own.

The work is cut into chunks of half a second. Each is a file that depends on nothing but the clip, the improvement and
how it is computed, so a chunk that is there when the work begins again, after a kill or a stop, need not be made again.
They are removed when the clip is written. Imports torch only with an upscaler.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av

from ovi_studio.checkpoints.hashes import file_sha256
from ovi_studio.core.errors import JobError, is_out_of_memory
from ovi_studio.core.improvement import Improvement
from ovi_studio.improve.chunk_folder import chunk_folder, discard_chunks
from ovi_studio.improve.smooth import Interpolator, Minterpolate
from ovi_studio.improve.upscaler_library import UpscalerLibrary
from ovi_studio.media.clip_files import check_free, check_writable
from ovi_studio.media.frames import to_rgb, to_yuv
from ovi_studio.media.remade_clip import StoredClip, encode_chunk, write_remade
from ovi_studio.media.small_files import folder_errors

if TYPE_CHECKING:
    from ovi_studio.improve.upscaler import Upscaler

CHUNK = 12
"""Frames of the original in a chunk."""
Progress = Callable[[float, int], None]
"""Called with the original frames that are done, and their number; what it raises ends the work, to go on later."""


@dataclass(frozen=True)
class Target:
    """Where a result goes, and where its chunks are until then."""

    directory: Path
    stem: str
    """File name without suffix; it gets a counter if it is taken."""
    work: Path
    """Folder for chunks, of whatever clip; on the same disk, and nobody's who only watches clips."""
    owner: str
    """For whom this is made: chunks are continued for the same one only."""


class ClipImprover:
    """Improves clips, one at a time, and keeps the upscaler that it used last.

    Args:
        device, dtype: as in `RuntimeOptions`; where and how upscalers compute.
    """

    def __init__(
        self,
        upscalers: UpscalerLibrary,
        device: str = "auto",
        dtype: str = "auto",
        interpolator: Interpolator | None = None,
    ) -> None:
        self._upscalers = upscalers
        self._device, self._dtype = device, dtype
        self._interpolator = interpolator or Minterpolate()
        self._loaded: tuple[str, Upscaler] | None = None

    def improve(
        self, source: Path, improvement: Improvement, target: Target, on_progress: Progress, **record: Any
    ) -> Path:
        """Write an improved copy of a clip; returns its path. The clip itself is not changed.

        Args:
            record: goes into the copy's record.

        Raises `JobError`, and what `on_progress` raises. Only chunks are left behind then.
        """
        try:
            return self._improve(source, improvement, target, on_progress, record)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise JobError(
                f"There is not enough memory to improve {source.name}; close other programs, or choose a smaller "
                f"upscaler or --device cpu."
            ) from error

    def _improve(
        self, source: Path, improvement: Improvement, target: Target, on_progress: Progress, record: Mapping[str, Any]
    ) -> Path:
        clip = StoredClip.open(source)
        clip.check_slower_than(improvement.fps)
        improvement = self._upscalers.pin(improvement)
        check_writable(target.directory)
        on_progress(0, clip.frames)
        upscaler = self._upscaler(improvement)
        step = _step_record(clip, improvement, upscaler, self._interpolator)
        with chunk_folder(target.work, target.owner, [step, CHUNK]) as folder:
            _check_room(clip, improvement, upscaler, folder, target.directory)
            maker = _ChunkMaker(clip, improvement.fps, upscaler, self._interpolator, on_progress)
            chunks = [maker.chunk(folder, start) for start in range(0, clip.frames, CHUNK)]
            earlier = clip.record.get("improvements")
            steps = [*(earlier if isinstance(earlier, list) else []), step]
            path = write_remade(
                clip,
                chunks,
                improvement.fps or clip.rate,
                {**clip.record, **record, "improvements": steps},
                target.directory,
                target.stem,
                lambda: on_progress(clip.frames, clip.frames),
            )
        discard_chunks(target.work, target.owner)
        return path

    def _upscaler(self, improvement: Improvement) -> "Upscaler | None":
        if improvement.upscaler is None or improvement.sha256 is None:
            return None
        if self._loaded is None or self._loaded[0] != improvement.sha256:
            from ovi_studio.improve.upscaler import Upscaler
            from ovi_studio.models.device import compute_device

            self._loaded = None  # memory does not hold two
            entry = self._upscalers.find(improvement.upscaler)
            device = compute_device(self._device)
            self._loaded = improvement.sha256, Upscaler.load(entry.name, entry.path, device, self._dtype)
        return self._loaded[1]


class _ChunkMaker:
    """Makes the chunks of one clip. Its frames are upscaled one by one; a few are kept for the chunks on both sides."""

    def __init__(
        self,
        clip: StoredClip,
        fps: int | None,
        upscaler: "Upscaler | None",
        interpolator: Interpolator,
        on_progress: Progress,
    ) -> None:
        self._clip, self._fps, self._upscaler, self._interpolator = clip, fps, upscaler, interpolator
        self._on_progress = on_progress
        self._source: Iterator[av.VideoFrame] | None = None
        self._next = 0
        self._kept: OrderedDict[int, av.VideoFrame] = OrderedDict()

    def chunk(self, folder: Path, start: int) -> Path:
        """Make the chunk that begins with an original frame, unless it is there; returns its path."""
        path = folder / f"{start:06d}.mp4"
        end = min(start + CHUNK, self._clip.frames)
        if not path.exists():
            frames = self._plain(start, end) if self._fps is None else self._smooth(start, end, self._fps)
            with folder_errors(folder):
                encode_chunk(frames, path, self._fps or self._clip.rate)
        self._on_progress(end, self._clip.frames)
        return path

    def _plain(self, start: int, end: int) -> Iterator[av.VideoFrame]:
        for number in range(start, end):
            yield self._frame(number)

    def _smooth(self, start: int, end: int, fps: int) -> Iterator[av.VideoFrame]:
        """The frames whose times lie in the chunk; beyond the clip's ends its first and last frames stand still."""
        rate, lead = self._clip.rate, self._clip.rate  # a second, so that no time is negative

        def given() -> Iterator[av.VideoFrame]:
            for number in range(start - self._interpolator.before, end + self._interpolator.after):
                frame = _copy(self._frame(min(max(number, 0), self._clip.frames - 1)))
                frame.pts = number + lead
                yield frame

        first, last = (-(-number * fps // rate) + fps for number in (start, end))
        for frame in self._interpolator(given(), rate, fps):
            if frame.pts is not None and first <= frame.pts < last:
                yield frame

    def _frame(self, number: int) -> av.VideoFrame:
        if number not in self._kept:
            self._kept[number] = self._upscaled(number)
            while len(self._kept) > self._interpolator.before + self._interpolator.after + 1:
                self._kept.popitem(last=False)
        return self._kept[number]

    def _upscaled(self, number: int) -> av.VideoFrame:
        frame = self._decoded(number)
        if self._upscaler is None:
            self._on_progress(number, self._clip.frames)
            return frame
        pixels = self._upscaler(to_rgb(frame), lambda part: self._on_progress(number + part, self._clip.frames))
        return to_yuv(pixels)

    def _decoded(self, number: int) -> av.VideoFrame:
        if self._source is None or self._next > number:
            self._source, self._next = self._clip.decode(number), number
        for frame in self._source:
            self._next += 1
            if self._next > number:
                return frame
        raise AssertionError("unreachable: a clip that ends early is a `JobError`")


def _copy(frame: av.VideoFrame) -> av.VideoFrame:
    """The same picture with a time of its own; without the original's, which say how it was encoded."""
    return av.VideoFrame.from_ndarray(frame.to_ndarray(), format="yuv420p")


def _step_record(
    clip: StoredClip, improvement: Improvement, upscaler: "Upscaler | None", interpolator: Interpolator
) -> dict[str, Any]:
    """What is done to the clip, for its record; chunks of the same one are interchangeable."""
    step: dict[str, Any] = {"source": clip.path.name, "source_sha256": file_sha256(clip.path)}
    if upscaler is not None:
        step["upscaler"] = {
            "name": upscaler.name,
            "sha256": improvement.sha256,
            "architecture": upscaler.architecture,
            "scale": upscaler.scale,
            "dtype": str(upscaler.dtype).removeprefix("torch."),
        }
    if improvement.fps is not None:
        step["frames_a_second"] = {"from": clip.rate, "to": improvement.fps, "by": interpolator.name}
    return step


def _check_room(
    clip: StoredClip, improvement: Improvement, upscaler: "Upscaler | None", folder: Path, directory: Path
) -> None:
    """Raise `FolderError` if chunks and clip may not fit on the disk; the clip itself is what is known of its bytes."""
    larger = 1 if upscaler is None else upscaler.scale**2
    size = int(clip.path.stat().st_size * larger * (improvement.fps or clip.rate) / clip.rate)
    made = sum(chunk.stat().st_size for chunk in folder.glob("*.mp4"))
    check_free(directory, 2 * size - min(size, made))
