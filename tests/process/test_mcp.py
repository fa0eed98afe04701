"""MCP against the running application, with the protocol's own client."""

import base64
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx
import pytest
from page_helpers import LONG
from PIL import Image
from places import ROOT
from studio_app import Application, running

pytest.importorskip("mcp", reason="the package mcp is not installed: pip install 'mcp>=1.21,<2'")

LOGIN = ("studio", "right horse")
TOOLS = {
    "show_settings",
    "queue_clips",
    "queue_grid",
    "improve_clips",
    "wait_for_job",
    "list_jobs",
    "cancel_jobs",
    "retry_jobs",
    "fetch_clip",
    "queue_film",
    "show_film",
    "export_film",
}


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    with running(tmp_path_factory.mktemp("mcp") / "outputs", "--mcp", "--login", ":".join(LOGIN)) as found:
        yield found


def session(application: Application, work: Any) -> Any:
    """What `work` returns for a session of the client that logs in with every request."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    login = base64.b64encode(":".join(LOGIN).encode()).decode()

    async def run() -> Any:
        async with (
            httpx.AsyncClient(headers={"Authorization": f"Basic {login}"}, timeout=90) as http,
            streamable_http_client(f"{application.url}mcp", http_client=http) as (read, write, _),
            ClientSession(read, write) as client,
        ):
            await client.initialize()
            return await work(client)

    # In a thread of its own: in this one, a browser of another test may keep its event loop.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(anyio.run, run).result()


async def ask(client: Any, tool: str, **arguments: Any) -> Any:
    answer = await client.call_tool(tool, arguments)
    assert not answer.isError, answer.content
    return answer.structuredContent if answer.structuredContent is not None else answer.content


def test_a_program_makes_a_clip_with_the_tools_alone(application: Application) -> None:
    heard: list[float] = []

    async def heard_of(progress: float, total: float | None, message: str | None) -> None:
        heard.append(progress)

    async def work(client: Any) -> tuple[dict[str, Any], dict[str, Any], list[Any]]:
        shown = await ask(client, "show_settings")
        model = shown["models"][0]["name"]
        queued = await ask(client, "queue_clips", prompt="A red ball", model=model, settings={"steps": 3, "seed": 7})
        (job,) = queued["jobs"]
        ended = await client.call_tool("wait_for_job", {"job": job, "seconds": 60}, progress_callback=heard_of)
        again = await ask(client, "show_settings", job=job)
        return ended.structuredContent, again, await ask(client, "fetch_clip", job=job)

    job, settings, (still, text) = session(application, work)
    assert (job["state"], job["spec"]["seed"], settings["steps"]) == ("done", 7, 3)
    with Image.open(io.BytesIO(base64.b64decode(still.data))) as picture:
        assert picture.format == "JPEG"
    fetched = json.loads(text.text)
    assert fetched["url"].startswith(f"{application.url}studio/job/")
    assert str(application.outputs) not in str([job, settings, fetched])
    assert heard


def test_a_first_frame_cancel_retry_and_list(application: Application) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (96, 64), (200, 40, 20)).save(buffer, "PNG")

    async def work(client: Any) -> list[Any]:
        frame = base64.b64encode(buffer.getvalue()).decode()
        queued = await ask(client, "queue_clips", prompt=LONG, settings={"steps": 1000}, first_frame=frame, count=2)
        jobs = queued["jobs"]
        listed = await ask(client, "list_jobs")
        waited = await ask(client, "wait_for_job", job=jobs[-1], seconds=0.1)
        cancelled = await ask(client, "cancel_jobs", jobs=jobs)
        for job in jobs:
            await ask(client, "wait_for_job", job=job)
        retried = await ask(client, "retry_jobs", jobs=jobs)
        await ask(client, "cancel_jobs", jobs=jobs)
        return [listed, waited, cancelled, retried]

    listed, waited, cancelled, retried = session(application, work)
    assert [job["spec"]["image"] for job in listed["jobs"][:2]] == [True, True]
    assert waited["state"] in ("queued", "running")
    assert (cancelled, retried) == ({"cancelled": 2}, {"queued": 2})


def test_a_film_is_made_and_its_address_is_told(application: Application) -> None:
    async def work(client: Any) -> tuple[Any, ...]:
        shots = [{"prompt": "A ball."}, {"prompt": "It rolls.", "begin": "previous"}]
        queued = await ask(client, "queue_film", film={"title": "Two", "shots": shots})
        early = await client.call_tool("export_film", {"film": queued["film"]})
        for job in queued["jobs"]:
            await ask(client, "wait_for_job", job=job, seconds=90)
        shown = await ask(client, "show_film", film=queued["film"])
        return early, shown, await ask(client, "show_film"), await ask(client, "export_film", film=queued["film"])

    early, shown, listed, exported = session(application, work)
    assert early.isError
    assert "shots have no clip" in early.content[0].text
    assert (shown["done"], [film["title"] for film in listed["films"]]) == (2, ["Two"])
    assert httpx.get(exported["url"]).status_code == 401
    with httpx.Client(timeout=60) as client:
        client.post(f"{application.url}login", data={"username": LOGIN[0], "password": LOGIN[1]})
        joined = client.get(exported["url"])
        assert (joined.status_code, joined.headers["content-type"]) == (200, "video/mp4"), joined.text[:300]
        assert joined.content[4:8] == b"ftyp"
        missing = client.get(f"{application.url}studio/film/99/film.mp4")
        assert (missing.status_code, missing.text) == (409, "This film no longer exists; it was deleted.")


def test_a_grid_is_made_and_a_clip_of_it_becomes_smoother(application: Application) -> None:
    async def work(client: Any) -> tuple[Any, ...]:
        shown = await ask(client, "show_settings")
        grid = await ask(
            client,
            "queue_grid",
            prompt="A ball",
            across="steps",
            across_values=[2, 3],
            down="seed",
            down_values=["5,6"],
        )
        (better,) = (await ask(client, "improve_clips", jobs=grid["jobs"][3:], fps=48))["jobs"]
        ended = await ask(client, "wait_for_job", job=better, seconds=90)
        cells = [[await ask(client, "show_settings", job=job) for job in row] for row in grid["grid"]["jobs"]]
        return shown, grid["grid"], ended, cells

    shown, grid, ended, cells = session(application, work)
    assert shown["grid_axes"]["steps"] == ["10", "20", "30", "50"]
    assert shown["upscalers"] == []
    assert (grid["title"], grid["columns"], grid["row_title"], grid["rows"]) == (
        "Steps",
        ["2", "3"],
        "Seed",
        ["5", "6"],
    )
    assert [[(spec["seed"], spec["steps"]) for spec in row] for row in cells] == [[(5, 2), (5, 3)], [(6, 2), (6, 3)]]
    assert (ended["state"], ended["improvement"]["fps"], ended["spec"]["seed"]) == ("done", 48, 6)


def test_the_tools_are_described_and_refuse_with_sentences(application: Application) -> None:
    async def work(client: Any) -> tuple[Any, list[Any]]:
        tools = (await client.list_tools()).tools
        calls = [
            ("wait_for_job", {"job": "0" * 32}),
            ("queue_clips", {"prompt": " "}),
            ("queue_clips", {"prompt": "x", "settings": {"steps": 0}}),
            ("queue_clips", {"prompt": "x", "first_frame": "no base64!"}),
            ("fetch_clip", {"job": "../../etc/passwd"}),
            ("list_jobs", {"state": "lost"}),
            ("queue_grid", {"prompt": "x", "across": "colour", "across_values": ["red", "blue"]}),
            ("queue_grid", {"prompt": "x", "across": "steps", "across_values": [3]}),
            ("queue_grid", {"prompt": "{a|b}", "across": "steps", "across_values": [3, 4]}),
            ("improve_clips", {"jobs": ["0" * 32], "upscaler": "none"}),
            ("improve_clips", {"jobs": ["0" * 32], "fps": 30}),
            ("improve_clips", {"jobs": []}),
        ]
        return tools, [await client.call_tool(name, arguments) for name, arguments in calls]

    tools, answers = session(application, work)
    assert {tool.name for tool in tools} == TOOLS
    for tool in tools:
        assert len(tool.description or "") > 50
        described = tool.inputSchema["properties"].values()
        assert all(part.get("description") for part in described), tool.name
    sentences = [answer.content[0].text for answer in answers]
    assert all(answer.isError for answer in answers)
    for sentence, expected in zip(
        sentences,
        [
            "no longer exists",
            "prompt is empty",
            "steps must be",
            "not valid base64",
            "no longer exists",
            "Unknown state",
            "choose one of seed, steps",
            "two or more",
            "remove the braces",
            "no upscaler 'none'",
            "choose 48 or 60",
            "Choose 1 to 1000 clips",
        ],
        strict=True,
    ):
        assert expected.lower() in sentence.lower()
        assert "Traceback" not in sentence


@pytest.mark.parametrize("header", ["", "Basic eDp5", "Basic !", "Bearer right horse", "Basic c3R1ZGlv"])
def test_nothing_answers_without_the_login(application: Application, header: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        answer = httpx.request(method, f"{application.url}mcp", headers={"Authorization": header}, content=b"{}")
        assert answer.status_code in (401, 429)


def test_other_names_and_pages_are_refused(application: Application) -> None:
    login = httpx.BasicAuth(*LOGIN)
    assert httpx.post(f"{application.url}mcp", auth=login, headers={"Host": "evil.example"}).status_code == 421
    assert httpx.post(f"{application.url}mcp", auth=login, headers={"Origin": "http://evil.example"}).status_code == 403


def test_without_the_package_the_option_says_what_to_install(python_environment: dict[str, str]) -> None:
    hidden = "import runpy, sys; sys.modules['mcp'] = None; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    command = [sys.executable, "-c", hidden, str(ROOT / "app.py"), "--mcp"]
    ended = subprocess.run(command, env=python_environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "pip install 'mcp" in ended.stderr
