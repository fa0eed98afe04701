"""The files of Whisper on the hub, for `download whisper`."""

from pathlib import Path

from ovi_studio.checkpoints.download import DownloadPlan, MissingFile, plan_files
from ovi_studio.checkpoints.file_check import damage
from ovi_studio.core.variants import HubFile
from ovi_studio.takes.listeners import WHISPER_FOLDER

_REPOSITORY, _LICENCE = "openai/whisper-small", "Apache-2.0"
SIZES = {
    "model.safetensors": 967_000_000,
    "config.json": 2_000,
    "generation_config.json": 4_000,
    "preprocessor_config.json": 185_000,
    "tokenizer.json": 2_500_000,
    "tokenizer_config.json": 283_000,
    "special_tokens_map.json": 2_000,
    "normalizer.json": 53_000,
    "added_tokens.json": 35_000,
    "merges.txt": 494_000,
    "vocab.json": 836_000,
}
"""File -> bytes, rounded."""


def plan_whisper(checkpoint_directory: Path) -> DownloadPlan:
    """Ask the hub for the files that are missing; raises `JobError`."""
    sources = [HubFile(_REPOSITORY, name, WHISPER_FOLDER, size, _LICENCE) for name, size in SIZES.items()]
    found = ((source, checkpoint_directory / source.location) for source in sources)
    missing = [MissingFile(source, target, reason) for source, target in found if (reason := damage(target))]
    return plan_files(missing, checkpoint_directory)
