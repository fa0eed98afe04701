"""Pictures of the page for the documentation: `python tests/browser/screenshots.py [folder]`, by default into `docs/`.

Starts the application over a studio of its own with the embedded model, makes a few clips, lines up a few more, and
takes every tab in the middle of that, for a desktop and for a phone. `--sketch` draws the clips by the formula of the
model's scenes, in seconds, to look at the page alone; `--png` for programs that read nothing else.
"""

import argparse
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT)]

from browser import DESKTOP, PATIENCE, PHONE, open_browser, show, visit, wait_for  # noqa: E402
from chat_server import chat_server  # noqa: E402
from sketch_models import NAME, scene  # noqa: E402
from studio_app import Application  # noqa: E402
from upscaler_files import write_upscaler  # noqa: E402

from ovi_studio.core.requests import SeedMode  # noqa: E402
from ovi_studio.core.shipped import PRESETS  # noqa: E402
from ovi_studio.film.film_yaml import format_film  # noqa: E402
from ovi_studio.film.screenplay import read_screenplay  # noqa: E402
from ovi_studio.film.script import Look  # noqa: E402

PROMPTS = [scene(number)[1] for number in (3, 8, 14, 21, 27, 33, 41, 52)]
WRITTEN = "A {red|blue|yellow} ball bounces on a wooden floor."
SPOKEN = ("A voice says", "Here it comes again.")
SOUND = "a thud at every bounce"
SIZES = (("desktop", DESKTOP, 1), ("phone", PHONE, 2))
TYPED = ("a red ball", "a {red|blue} cube on grass", "an old man says, <S>Good morning.<E>")
BETTER = (
    "A shiny red ball bounces slowly over an old wooden floor in warm evening light; the camera follows it at floor "
    "level. <AUDCAP>Soft thuds of rubber on wood, a quiet room.<ENDAUDCAP>",
    "A {red|blue} cube lies on short wet grass, small drops run down its sides. <AUDCAP>Light wind.<ENDAUDCAP>",
    "An old man in a grey cap leans on a gate, smiles and says, <S>Good morning.<E> "
    "<AUDCAP>Birds, a warm low voice.<ENDAUDCAP>",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "docs")
    parser.add_argument("--steps", type=int, default=20, help="of each clip (default: %(default)s)")
    parser.add_argument("--sketch", action="store_true", help="clips drawn by a formula instead of the model's")
    parser.add_argument("--png", action="store_true", help="PNG instead of JPEG")
    parser.add_argument("--dialogs", action="store_true", help="only the dialogs that need a helper or an upscaler")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    suffix = ".png" if options.png else ".jpg"
    take_dialogs(options.folder, suffix)
    if options.dialogs:
        return
    home = Path(tempfile.mkdtemp(prefix="ovi-studio-"))
    models = NAME if options.sketch else None
    application = Application(home / "outputs", home / "checkpoints", models=models)
    try:
        with open_browser() as browser:
            client = application.client()
            make_clips(client, options.steps)
            make_film(client)
            # Long enough to be photographed while it runs.
            line_up(client, options.steps)
            for name, size, scale in SIZES:
                take_all(browser, application, options.folder, name, size, scale, suffix)
    finally:
        application.end()
        shutil.rmtree(home, ignore_errors=True)


def take_dialogs(folder: Path, suffix: str) -> None:
    """Take the dialogs for larger and smoother clips, and for the suggestions of a helper, over clips of a formula."""
    home = Path(tempfile.mkdtemp(prefix="ovi-studio-"))
    for name in ("RealESRGAN_x2", "RealESRGAN_x4"):
        write_upscaler(home / "upscalers" / f"{name}.pth")
    (home / "evening.txt").write_text("\n".join(TYPED))
    with chat_server() as server:
        server.answers = [*BETTER, *BETTER]
        helper = ("--helper", server.address, "--helper-model", "llama3.2")
        more = (*helper, "--upscaler-dir", str(home / "upscalers"))
        application = Application(home / "outputs", home / "checkpoints", *more, models=NAME)
        try:
            make_clips(application.client(), 2)
            with open_browser() as browser:
                for name, size, scale in SIZES:
                    page = fine_page(browser, application.url, size, scale)
                    page.wait_for_selector("#filmstrip [data-state=done]", state="attached")
                    take_suggestions(page, home / "evening.txt", folder / f"suggestions-{name}{suffix}")
                    take_improving(page, folder / f"improve-{name}{suffix}")
                    page.close()
        finally:
            application.end()
            shutil.rmtree(home, ignore_errors=True)


def fine_page(browser: Any, url: str, size: tuple[int, int], scale: int) -> Any:
    """A page whose pictures have `scale` times as many pixels."""
    page = browser.new_page(device_scale_factor=scale)
    page.set_default_timeout(PATIENCE * 1000)
    visit(page, url, size)
    return page


def take_suggestions(page: Any, table: Path, target: Path) -> None:
    page.get_by_role("button", name="Many clips at once").click()
    page.set_input_files("#table input[type=file]", str(table))
    page.get_by_role("button", name="Suggest better prompts for this table").click()
    page.locator("#table-suggestions-dialog tbody tr").last.get_by_role("button", name="Use").wait_for()
    page.locator("#table-suggestions-dialog tbody tr").first.get_by_role("button", name="Use").click()
    save(page, target)
    page.get_by_role("button", name="Cancel", exact=True).click()


def take_improving(page: Any, target: Path) -> None:
    show(page, "Library")
    for number in range(3):
        page.locator("#wall .card input[type=checkbox]").nth(number).check()
    page.click("#improve-selected")
    page.locator("#improving-size option", has_text="RealESRGAN_x2").wait_for(state="attached")
    page.select_option("#improving-size", "RealESRGAN_x2")
    page.locator("#improving").get_by_label("48").check()
    save(page, target)


def save(page: Any, target: Path) -> None:
    page.wait_for_timeout(1500)
    page.screenshot(path=target, **({} if target.suffix == ".png" else {"quality": 86}))
    print(target, flush=True)


def make_clips(client: Any, steps: int) -> None:
    settings = {"steps": steps, "seed": 11, "video_guidance": 3}
    for prompt in PROMPTS:
        client.predict(prompt, settings=settings, name="Shapes in the evening", api_name="/queue")
    wait_for(lambda: not client.predict("queued", api_name="/list"), 1800)
    wait_for(lambda: not client.predict("running", api_name="/list"), 1800)


def make_film(client: Any) -> None:
    film = read_screenplay((PRESETS / "films" / "ruby-and-sky.fountain").read_text(encoding="utf-8"), "Ruby and Sky", 3)
    look = Look(preset="demo-lightning", seed=1, seed_mode=SeedMode.FIXED)
    number = client.predict(format_film(replace(film, look=look)), "", "", 0, api_name="/film_queue")["film"]
    shots = client.predict(number, api_name="/film_status")["shots"]
    client.predict(number, shots[1]["id"], 1, api_name="/film_again")

    def checked() -> bool:
        found = client.predict(number, api_name="/film_status")["shots"]
        return all(take["scores"] for shot in found for take in shot["takes"])

    wait_for(checked, 1800)


def line_up(client: Any, steps: int) -> None:
    def queue(prompt: str, name: str, **more: Any) -> list[str]:
        return client.predict(prompt, name=name, api_name="/queue", **more)["jobs"]

    queue(PROMPTS[0], "A long one", settings={"steps": 1000, "seed": 3})
    waiting = queue(PROMPTS[2], "Purple triangles", settings={"steps": steps}, count=5)
    queue("A {red|green|blue} ball bounces on a stone floor.", "Ball colours", settings={"steps": steps})
    client.predict(waiting[-1:], api_name="/cancel")
    wait_for(lambda: (found := client.predict("running", api_name="/list")) and found[0]["step"] > 2, 600)


def take_all(
    browser: Any, application: Application, folder: Path, name: str, size: tuple[int, int], scale: int, suffix: str
) -> None:
    page = fine_page(browser, application.url, size, scale)

    def take(tab: str, *, top: bool = True) -> None:
        page.mouse.move(0, 0)
        if top:
            page.evaluate("scrollTo(0, 0)")
        save(page, folder / f"{tab}-{name}{suffix}")

    page.wait_for_selector("#status .live", state="attached")  # on a phone the stage is a sheet
    page.fill("#prompt textarea", WRITTEN)
    page.click("[data-add=speech]")
    page.fill("#cues input", SPOKEN[0])
    page.fill("#cues textarea", SPOKEN[1])
    page.fill("#sound textarea", SOUND)
    page.locator("#sound textarea").blur()
    page.wait_for_selector("#generate >> text=Create 3 clips")
    take("create")
    page.get_by_role("button", name="Draw a first frame").click()
    page.wait_for_selector("#draw-candidates")
    page.locator("#draw-first-frame").scroll_into_view_if_needed()
    take("first-frame", top=False)
    page.get_by_role("button", name="Draw a first frame").click()
    show(page, "Queue")
    page.wait_for_selector(".job")
    take("queue")
    show(page, "Film")
    page.wait_for_selector("#storyboard .scores")
    take("film")
    show(page, "Library")
    page.wait_for_selector("#wall .card")
    if size is DESKTOP:
        page.locator("#wall .card .star").nth(1).click()
        page.wait_for_selector("#wall .star[aria-pressed=true]")
        page.locator("#wall .card .poster").first.click()
        page.wait_for_selector("#lightbox[open] .prompt")
    take("library")
    if size is DESKTOP:
        page.keyboard.press("Escape")  # it lies over the tabs
        page.wait_for_selector("#lightbox[open]", state="detached")
    show(page, "Templates")
    page.locator("#template-cards .template").first.click()
    page.wait_for_selector(".slots")
    take("templates")
    show(page, "LoRAs")
    take("loras")
    show(page, "System")
    page.wait_for_selector("#doctor .findings", timeout=180_000)
    take("system")
    page.close()


if __name__ == "__main__":
    main()
