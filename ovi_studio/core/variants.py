"""The model variants as data: what they produce, which files they consist of, and where those come from.

The published variants share all dimensions (`models/ovi.json`). A directory with a `bundle.json` is a separate variant
with its own dimensions and the same layout; the embedded demo model is one. Nothing here imports torch.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from ovi_studio.core.errors import JobError
from ovi_studio.core.prompts import AudioTag
from ovi_studio.core.weight_formats import Weights

FRAME_RATE = 24
SAMPLE_RATE = 16_000
FRAMES_PER_LATENT = 4
"""Temporal stride of the video VAE; the first latent frame represents a single frame."""
SAMPLES_PER_LATENT = 512
"""Two mel frames of 256 samples."""

_PACKAGE = Path(__file__).parents[1]
EMBEDDED_BUNDLE = _PACKAGE / "demo" / "bundle"

_OVI_5B = "Wan2.2-TI2V-5B"


class Part(StrEnum):
    """The parts of a variant in a checkpoint directory."""

    TRANSFORMER = "transformer"
    TEXT_ENCODER = "text encoder"
    TOKENIZER = "tokenizer"
    VIDEO_VAE = "video VAE"
    AUDIO_VAE = "audio VAE"
    VOCODER = "vocoder"


@dataclass(frozen=True)
class HubFile:
    """A file in a repository on the hub, and the subfolder of the checkpoint directory where it belongs."""

    repository: str
    path: str
    folder: str
    size: int
    """Bytes; rounded unless `sha256` is known. The exact number is requested from the hub before a download."""
    licence: str
    sha256: str | None = None
    """Hash of the published file, for mirrors that do not tell it, and for finding the file in other folders."""

    @property
    def location(self) -> str:
        """Path below the checkpoint directory."""
        return f"{self.folder}/{self.path}"


@dataclass(frozen=True)
class Variant:
    """A model that makes clips of a fixed length and about a fixed pixel area."""

    name: str
    title: str
    video_latent_frames: int
    audio_latent_length: int
    pixel_area: int
    default_size: tuple[int, int]
    """(height, width)"""
    audio_tag: AudioTag
    files: Mapping[Part, tuple[HubFile, ...]] = field(repr=False)
    dimensions: Mapping[str, Any] = field(repr=False)
    """The dimensions of all models, structured like the official configuration files."""
    weights: Weights = Weights.BF16
    """Number format in the transformer's file."""
    slg_layer: int = 11
    root: Path | None = None
    """The folder of a bundle; None: the files are in the checkpoint directory."""

    @property
    def frames(self) -> int:
        return (self.video_latent_frames - 1) * FRAMES_PER_LATENT + 1

    @property
    def samples(self) -> int:
        return self.audio_latent_length * SAMPLES_PER_LATENT

    @property
    def seconds(self) -> float:
        return self.frames / FRAME_RATE

    @property
    def latent_stride(self) -> int:
        """Pixels per video latent, in height and width."""
        return latent_stride(self.dimensions["video_vae"])

    @property
    def size_unit(self) -> int:
        """Pixels per token of the video, in height and width; the sides of its clips are multiples of it."""
        return self.latent_stride * int(self.dimensions["fusion"]["video"]["patch_size"][1])


def latent_stride(video_vae: Mapping[str, Any]) -> int:
    """Return the pixels per latent of a video VAE with these dimensions, in height and width."""
    return int(video_vae["patch_size"]) * 2 ** (len(video_vae["dim_mult"]) - 1)


def decoder_levels(video_vae: Mapping[str, Any]) -> tuple[list[int], int]:
    """Return the decoder's width multipliers, one for each level, and the pixels of a side of its patches.

    They are the encoder's unless `dec_dim_mult` says otherwise. Further levels upsample in space alone; each of them
    halves the patches.
    """
    multipliers = [int(multiplier) for multiplier in video_vae.get("dec_dim_mult", video_vae["dim_mult"])]
    patch, odd = divmod(latent_stride(video_vae), 2 ** (len(multipliers) - 1))
    if odd or len(multipliers) < len(video_vae["dim_mult"]):
        raise ValueError(f"a decoder's {len(multipliers)} levels do not fit the encoder's {len(video_vae['dim_mult'])}")
    return multipliers, patch


def _shared_files() -> dict[Part, tuple[HubFile, ...]]:
    def wan(path: str, size: int, sha256: str | None = None) -> HubFile:
        return HubFile("Wan-AI/Wan2.2-TI2V-5B", path, _OVI_5B, size, "Apache-2.0", sha256)

    def mmaudio(path: str, size: int) -> HubFile:
        return HubFile("hkchengrex/MMAudio", path, "MMAudio", size, "CC-BY-NC-4.0")

    t5, spiece = "models_t5_umt5-xxl-enc-bf16.pth", "google/umt5-xxl/spiece.model"
    t5_hash = "7cace0da2b446bbbbc57d031ab6cf163a3d59b366da94e5afe36745b746fd81d"
    vae_hash = "20eb789667fa5e60e7516bf509512f6cb61f01b0aa0695eadaea930c13892b36"
    spiece_hash = "e3909a67b780650b35cf529ac782ad2b6b26e6d1f849d3fbb6a872905f452458"
    json_hash = "6e197b4d3dbd71da14b4eb255f4fa91c9c1f2068b20a2de2472967ca3d22602b"
    return {
        Part.TEXT_ENCODER: (wan(t5, 11_361_920_418, t5_hash),),
        Part.TOKENIZER: (
            wan("google/umt5-xxl/special_tokens_map.json", 6_600),
            wan(spiece, 4_548_313, spiece_hash),
            wan("google/umt5-xxl/tokenizer.json", 16_837_417, json_hash),
            wan("google/umt5-xxl/tokenizer_config.json", 61_700),
        ),
        Part.VIDEO_VAE: (wan("Wan2.2_VAE.pth", 2_818_839_170, vae_hash),),
        Part.AUDIO_VAE: (mmaudio("ext_weights/v1-16.pth", 687_000_000),),
        Part.VOCODER: (mmaudio("ext_weights/best_netG.pt", 449_000_000),),
    }


def _published(
    name: str,
    title: str,
    checkpoint: HubFile,
    *,
    latents: tuple[int, int],
    side: int,
    default_size: tuple[int, int],
    tag: AudioTag,
    weights: Weights = Weights.BF16,
) -> Variant:
    return Variant(
        name=name,
        title=title,
        video_latent_frames=latents[0],
        audio_latent_length=latents[1],
        pixel_area=side * side,
        default_size=default_size,
        audio_tag=tag,
        files={Part.TRANSFORMER: (checkpoint,), **_shared_files()},
        dimensions=json.loads((_PACKAGE / "models" / "ovi.json").read_text()),
        weights=weights,
    )


@cache
def published_variants() -> Mapping[str, Variant]:
    """Name -> variant, in display order."""

    def ovi(path: str) -> HubFile:
        return HubFile("chetwinlow1/Ovi", path, "Ovi", 23_318_000_000, "Apache-2.0")

    fp8 = HubFile("rkfg/Ovi-fp8_quantized", "model_fp8_e4m3fn.safetensors", "Ovi", 11_700_000_000, "Apache-2.0")
    short, long = (31, 157), (61, 314)
    variants = [
        _published(
            "960x960_10s",
            "960x960, 10 seconds",
            ovi("model_960x960_10s.safetensors"),
            latents=long,
            side=960,
            default_size=(704, 1280),
            tag=AudioTag.AUDIO,
        ),
        _published(
            "960x960_5s",
            "960x960, 5 seconds",
            ovi("model_960x960.safetensors"),
            latents=short,
            side=960,
            default_size=(704, 1280),
            tag=AudioTag.AUDIO,
        ),
        _published(
            "720x720_5s",
            "720x720, 5 seconds",
            ovi("model.safetensors"),
            latents=short,
            side=720,
            default_size=(512, 992),
            tag=AudioTag.AUDCAP,
        ),
        _published(
            "720x720_5s_fp8",
            "720x720, 5 seconds, fp8 file",
            fp8,
            latents=short,
            side=720,
            default_size=(512, 992),
            tag=AudioTag.AUDCAP,
            weights=Weights.FP8,
        ),
    ]
    return {variant.name: variant for variant in variants}


def read_bundle(root: Path) -> Variant:
    """The variant that `root/bundle.json` describes.

    Raises `JobError` if the file is missing, is not valid JSON or lacks an entry.
    """
    source = root / "bundle.json"
    try:
        entries = json.loads(source.read_text(encoding="utf-8"))
        return Variant(
            name=entries["name"],
            title=entries["title"],
            video_latent_frames=int(entries["video_latent_frames"]),
            audio_latent_length=int(entries["audio_latent_length"]),
            pixel_area=int(entries["pixel_area"]),
            default_size=(int(entries["default_size"][0]), int(entries["default_size"][1])),
            audio_tag=AudioTag(entries["audio_tag"]),
            files=_bundle_files(entries["licence"]),
            dimensions=entries["dimensions"],
            weights=Weights.of_file(entries.get("weights", Weights.BF16)),
            slg_layer=int(entries["slg_layer"]),
            root=root,
        )
    except OSError as error:
        raise JobError(f"{source} cannot be read ({error.strerror}); a model bundle needs this file.") from error
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise JobError(
            f"{source} does not describe a model bundle ({error}); write it again with the tool that made it."
        ) from error


def _bundle_files(licence: str) -> dict[Part, tuple[HubFile, ...]]:
    """The published layout, with the name of the 5-second checkpoint; a bundle is never downloaded."""

    def local(part: Part, path: str, folder: str) -> tuple[Part, tuple[HubFile, ...]]:
        return part, (HubFile("", path, folder, 0, licence),)

    return dict(
        [
            local(Part.TRANSFORMER, "model.safetensors", "Ovi"),
            local(Part.TEXT_ENCODER, "models_t5_umt5-xxl-enc-bf16.safetensors", _OVI_5B),
            local(Part.TOKENIZER, "google/umt5-xxl/tokenizer.json", _OVI_5B),
            local(Part.VIDEO_VAE, "Wan2.2_VAE.safetensors", _OVI_5B),
            local(Part.AUDIO_VAE, "ext_weights/v1-16.safetensors", "MMAudio"),
            local(Part.VOCODER, "ext_weights/best_netG.safetensors", "MMAudio"),
        ]
    )


def known_variants(checkpoint_directory: Path) -> Mapping[str, Variant]:
    """All variants: the published ones, the checkpoint directory's own bundle, and the embedded one."""
    variants = dict(published_variants())
    for root in (checkpoint_directory, EMBEDDED_BUNDLE):
        with suppress(PermissionError):  # a folder that cannot be read; its inventory says so
            if (root / "bundle.json").is_file():
                bundle = read_bundle(root)
                variants.setdefault(bundle.name, bundle)
    return variants


def find_variant(name: str, checkpoint_directory: Path) -> Variant:
    """The variant called `name`; raises `JobError` that lists the valid names."""
    variants = known_variants(checkpoint_directory)
    if name not in variants:
        raise JobError(f"There is no model variant {name!r}; choose one of {', '.join(variants)}.")
    return variants[name]
