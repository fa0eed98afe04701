"""Prompt tables that tests write, and the clips that they give."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ovi_studio.core.requests import MAX_RUN, Context, Expansion, Request, SeedMode
from ovi_studio.core.variants import published_variants
from ovi_studio.services.prompt_files import expand_table
from ovi_studio.services.prompt_tables import read_table

DEFAULTS = {"variant": "960x960_5s", "steps": 30, "video_negative_prompt": "blur"}


def write_table(work: Path, content: str | bytes, name: str = "prompts.csv") -> Path:
    path = work / "example_prompts" / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def clips_of(table: Path, defaults: Mapping[str, Any] = DEFAULTS, max_clips: int = MAX_RUN) -> Expansion:
    context = Context(published_variants().__getitem__, max_clips=max_clips)
    request = Request(defaults, seed_mode=SeedMode.FIXED)
    return expand_table(read_table(table, context.max_clips), request, context)
