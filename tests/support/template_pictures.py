"""Makes the pictures of the templates with a model: `python tests/support/template_pictures.py [--only ID] ...`.

Each template becomes a clip with its default values; the frame in the middle is stored as
`presets/templates/pictures/ID.webp`, which is shown instead of the drawn `ID.svg`. Delete those that do not show what
the template says: the embedded model, for one, knows only its shapes. Other options go to `generate`.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import av
from PIL import Image, ImageOps

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from ovi_studio.core.prompts import AudioTag  # noqa: E402
from ovi_studio.services.templates import Template, Templates  # noqa: E402

FOLDER = ROOT / "presets" / "templates" / "pictures"
SIZE = (480, 270)
SEED = 11
MAX_BYTES = 3 * 2**20
"""Of all pictures together."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="ID", help="a template; repeatable (default: all)")
    chosen, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as state:
        templates = Templates(Path(state)).all().templates
    for template in templates:
        if not chosen.only or template.id in chosen.only:
            store(make(template, options), FOLDER / f"{template.id}.webp")
    total = sum(path.stat().st_size for path in FOLDER.iterdir())
    if total > MAX_BYTES:
        sys.exit(f"All pictures together have {total / 2**20:.1f} MB; make them smaller than {MAX_BYTES // 2**20} MB.")


def make(template: Template, options: list[str]) -> Image.Image:
    """Make the template's clip; returns its middle frame."""
    prompt = template.fill({}, AudioTag.AUDCAP)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "ovi_studio", "generate", "--prompt", prompt, "--seed", str(SEED)]
        subprocess.run([*command, "--out", folder, *options], check=True, cwd=ROOT)
        (clip,) = Path(folder).glob("*.mp4")
        with av.open(str(clip)) as container:
            frames = [frame.to_image() for frame in container.decode(video=0)]
    return frames[len(frames) // 2]


def store(frame: Image.Image, path: Path) -> None:
    ImageOps.fit(frame, SIZE).save(path, "WEBP", quality=78, method=6)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} kB", flush=True)


if __name__ == "__main__":
    main()
