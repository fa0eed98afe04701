"""The embedded model follows its prompts: a short form of the table in `docs/demo-model.md`.

Fixed prompts (every motion, half of the combinations held out), one seed each, with the same pipeline and judges as the
table. A change that breaks quality fails here; `LEAST` is the only place with the limits.
"""

from dataclasses import replace
from pathlib import Path

import pytest
from places import ROOT

from ovi_studio.core.variants import EMBEDDED_BUNDLE
from ovi_studio.demo.evaluate import Evaluation, clip_runner, settings, tasks
from ovi_studio.demo.scores import score, table
from ovi_studio.runtime.clip_runner import ClipRunner

MOTIONS = 12
"""Prompts that have every motion twice, once held out."""
ONCE = [index for index in range(MOTIONS) if index % 4 in (0, 3)]
"""Prompts that have every motion once, every second one held out."""
OTHERS = [index for index in range(MOTIONS) if index not in ONCE]
"""The others, which have the same. Settings that differ in their steps alone share the prompts."""
PROMPTS = {
    "quality": OTHERS,
    "fast": ONCE,
    "lightning": OTHERS,
    "picture": ONCE,
    "quality-short": range(8),
    "lightning-short": range(8),
}
STEPS = {"quality": 8, "fast": 20, "picture": 8, "quality-short": 8}
"""Steps instead of 50, to save time, where they are not fixed; of 12 or fewer the step cache leaves out nothing."""
LEAST = {
    "quality": {"colour": 0.95, "shape": 0.8, "background": 0.95, "motion": 0.95, "sound": 0.95, "impacts": 0.9},
    "fast": {"colour": 0.95, "shape": 0.8, "background": 0.95, "motion": 0.95, "sound": 0.95, "impacts": 0.9},
    "lightning": {"colour": 0.95, "shape": 0.8, "background": 0.95, "motion": 0.9, "sound": 0.9, "impacts": 0.8},
    "picture": {"colour": 0.95, "kept": 0.9, "background": 0.95, "motion": 0.95, "sound": 0.95, "impacts": 0.9},
    "quality-short": {"all_named": 0.85, "motion": 0.95, "background": 0.95},
    "lightning-short": {"all_named": 0.85, "motion": 0.9, "background": 0.95},
}
"""Minimum fractions of clips (or impacts) that must be right; slightly below the measured values."""


@pytest.fixture(scope="module")
def runner() -> ClipRunner:
    return clip_runner(EMBEDDED_BUNDLE)


@pytest.mark.parametrize("name", list(LEAST))
def test_clips_follow_their_prompts(
    name: str, runner: ClipRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OVI_LORA_DIR", str(ROOT / "loras"))
    setting = settings()[name]
    if name in STEPS:
        setting = replace(setting, fields={**setting.fields, "steps": STEPS[name]})
    every = tasks(MOTIONS, 1, short=setting.short)
    wanted = [every[index] for index in PROMPTS[name]]
    rows = Evaluation(EMBEDDED_BUNDLE, setting, tmp_path / "rows.jsonl").run(wanted, runner)
    scores, least = score(rows), LEAST[name]
    missed = {question: getattr(scores, question) for question in least if getattr(scores, question) < least[question]}
    assert not missed, f"{missed} are below {least}\n{table(rows)}"
