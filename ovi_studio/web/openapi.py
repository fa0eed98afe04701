"""The OpenAPI description of the HTTP API. `python -m ovi_studio.web.openapi` prints `docs/openapi.json`.

The parameters come from the endpoints themselves, so that what is described is what is there; what the endpoints answer
is written here.
"""

import json
import tempfile
from typing import Any

import ovi_studio.web  # noqa: F401  (before gradio: without telemetry)
from ovi_studio import __version__
from ovi_studio.queue.model import ClipPhase, JobState
from ovi_studio.services.prompt_helper.suggestion import Edit
from ovi_studio.services.studio import Studio

_TEXT, _NUMBER, _WHOLE = {"type": "string"}, {"type": "number"}, {"type": "integer"}
_TEXTS = {"type": "array", "items": _TEXT}
_JOB = {"$ref": "#/components/schemas/Job"}
_UPLOAD = {"$ref": "#/components/schemas/Upload"}
_CHANGE = {
    "type": "object",
    "properties": {"change": {"type": "string", "enum": [str(edit) for edit in Edit]}, "text": _TEXT},
}
_REFUSED = {"type": "object", "properties": {"job": _TEXT, "reason": _TEXT}}
_GRID = {
    "type": "object",
    "properties": {
        "title": _TEXT,
        "columns": _TEXTS,
        "row_title": _TEXT,
        "rows": _TEXTS,
        "jobs": {"type": "array", "items": _TEXTS, "description": "Ids, row by row."},
    },
}
_ANSWERS: dict[str, Any] = {
    "/queue": {
        "type": "object",
        "properties": {"jobs": _TEXTS, "warnings": _TEXTS, "notes": _TEXTS},
    },
    "/grid": {
        "type": "object",
        "properties": {"jobs": _TEXTS, "warnings": _TEXTS, "notes": _TEXTS, "grid": _GRID},
    },
    "/list": {"type": "array", "items": _JOB},
    "/wait": _JOB,
    "/cancel": {"type": "object", "properties": {"cancelled": _WHOLE}},
    "/retry": {"type": "object", "properties": {"queued": _WHOLE}},
    "/clip": {"$ref": "#/components/schemas/File"},
    "/improve": {"type": "object", "properties": {"jobs": _TEXTS, "refused": {"type": "array", "items": _REFUSED}}},
    "/suggest": {
        "type": "object",
        "properties": {"prompt": _TEXT, "warnings": _TEXTS, "changes": {"type": "array", "items": _CHANGE}},
    },
}
_FILM_QUEUED = {"type": "object", "properties": {"film": _WHOLE, "jobs": _TEXTS, "remarks": _TEXTS}}
_FILM_ANSWERS: dict[str, Any] = {
    **dict.fromkeys(("/film_queue", "/film_edit", "/film_move", "/film_choose", "/film_again"), _FILM_QUEUED),
    "/film_list": {
        "type": "array",
        "items": {"type": "object", "properties": {"film": _WHOLE, "title": _TEXT}},
    },
    "/film_status": {"$ref": "#/components/schemas/Film"},
    "/film_delete": {"type": "object"},
    "/film_export": {"$ref": "#/components/schemas/File"},
}
_COMPONENTS = {"File": _UPLOAD, "JSON": {}, "Json": {}}
"""Component of Gradio -> the schema of its values, if Gradio's own one is of no use to a client."""


def describe_api(studio: Studio) -> dict[str, Any]:
    """Return the OpenAPI document."""
    import gradio as gr

    from ovi_studio.web.api import build_api

    with gr.Blocks() as page:
        build_api(studio)
    paths: dict[str, Any] = _login() | _upload()
    for name, endpoint in page.get_api_info()["named_endpoints"].items():
        paths |= _endpoint(name, endpoint)
    paths |= _media()
    info = {
        "title": "Ovi Studio",
        "version": __version__,
        "description": "Jobs over HTTP: call an endpoint, then read its answer as events. See docs/api.md.",
    }
    security = {"login": {"type": "apiKey", "in": "cookie", "name": "access-token-…", "description": "Set by /login."}}
    return {
        "openapi": "3.1.0",
        "info": info,
        "paths": paths,
        "components": {"schemas": _schemas(), "securitySchemes": security},
        "security": [{}, {"login": []}],
    }


def render(document: dict[str, Any]) -> str:
    """Return the document as the text of its file."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _endpoint(name: str, endpoint: dict[str, Any]) -> dict[str, Any]:
    properties = {
        part["parameter_name"]: _parameter(part) | {"description": part["label"], "default": part["parameter_default"]}
        for part in endpoint["parameters"]
    }
    summary = " ".join(endpoint.get("description", "").split())
    call = f"/gradio_api/call/v2{name}"
    begun = {"type": "object", "properties": {"event_id": _TEXT}, "required": ["event_id"]}
    answer = {"type": "array", "prefixItems": [(_ANSWERS | _FILM_ANSWERS)[name]]}
    events = (
        "Lines `event: generating|complete|error|heartbeat`, each with a line `data:` of JSON: a list with the answer "
        "as its only item; of an error, an object with its sentence."
    )
    return {
        call: {
            "post": {
                "operationId": f"{name[1:]}_begin",
                "summary": summary,
                "requestBody": {
                    "required": True,
                    "content": {"application/json": {"schema": {"type": "object", "properties": properties}}},
                },
                "responses": {
                    "200": _json("The id with which the answer is read.", begun),
                    "401": _said("Log in first."),
                },
            }
        },
        f"{call}/{{event_id}}": {
            "get": {
                "operationId": f"{name[1:]}_answer",
                "summary": f"The answer of {name}.",
                "parameters": [{"name": "event_id", "in": "path", "required": True, "schema": _TEXT}],
                "responses": {
                    "200": {
                        "description": events,
                        "content": {"text/event-stream": {"schema": _TEXT, "x-data": answer}},
                    }
                },
            }
        },
    }


def _parameter(part: dict[str, Any]) -> dict[str, Any]:
    return dict(_COMPONENTS.get(part["component"], part["type"]))


def _login() -> dict[str, Any]:
    fields = {"type": "object", "properties": {"username": _TEXT, "password": _TEXT}}
    return {
        "/login": {
            "post": {
                "operationId": "login",
                "summary": "Log in, if the page has a login; sets the cookie for all other requests.",
                "requestBody": {
                    "required": True,
                    "content": {"application/x-www-form-urlencoded": {"schema": fields}},
                },
                "responses": {
                    "200": _said("The cookie is set."),
                    "400": _said("The login is wrong."),
                    "429": _said("Too many wrong logins; `Retry-After` says for how many seconds to wait."),
                },
            }
        }
    }


def _upload() -> dict[str, Any]:
    files = {"type": "array", "items": {"type": "string", "format": "binary"}}
    form = {"type": "object", "properties": {"files": files}, "required": ["files"]}
    return {
        "/gradio_api/upload": {
            "post": {
                "operationId": "upload",
                "summary": "Send a first frame of at most 50 MB; the answer goes into `picture.path` of /queue.",
                "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}},
                "responses": {
                    "200": _json("Where the files are kept for a day.", _TEXTS),
                    "413": _said("The file is too large."),
                    "507": _said("There are too many uploads."),
                },
            }
        }
    }


def _media() -> dict[str, Any]:
    def route(kind: str, what: str, *, saves: bool = False, **numbers: str) -> dict[str, Any]:
        parameters: list[dict[str, Any]] = [{"name": "job", "in": "path", "required": True, "schema": _TEXT}]
        if saves:
            parameters.append(
                {"name": "download", "in": "query", "schema": _TEXT, "description": "Any value: save it."}
            )
        parameters += [
            {"name": name, "in": "query", "schema": _WHOLE, "description": words} for name, words in numbers.items()
        ]
        content = {kind: {"schema": {"type": "string", "format": "binary"}}}
        found = {"description": what, "content": content}
        answers = {"200": found, "401": _said("Log in first."), "404": _said("This no longer exists.")}
        return {"get": {"summary": what, "parameters": parameters, "responses": answers}}

    return {
        "/studio/job/{job}/clip.mp4": route("video/mp4", "The clip of a finished job.", saves=True),
        "/studio/job/{job}/export.wav": route("audio/wav", "The sound of a finished job's clip."),
        "/studio/job/{job}/export.png": route(
            "image/png", "A frame of a finished job's clip.", frame="From 0.", milliseconds="Or when."
        ),
        "/studio/job/{job}/export.zip": route("application/zip", "A finished job's clip and a table of its settings."),
        **{
            f"/studio/job/{{job}}/export.{kind}": route(
                f"image/{kind}", "A loop without sound.", side="Pixels at most."
            )
            for kind in ("gif", "webp")
        },
        "/studio/job/{job}/poster.jpg": route("image/jpeg", "A still picture of a finished job's clip."),
        "/studio/job/{job}/preview.jpg": route("image/jpeg", "The live preview of a running job."),
    }


def _schemas() -> dict[str, Any]:
    def maybe(schema: dict[str, Any]) -> dict[str, Any]:
        return {**schema, "type": [schema["type"], "null"]}

    job = {
        "id": _TEXT,
        "number": _WHOLE,
        "batch": _TEXT,
        "state": {"type": "string", "enum": [str(state) for state in JobState]},
        "priority": _WHOLE,
        "attempt": _WHOLE,
        "phase": {"type": ["string", "null"], "enum": [*(str(phase) for phase in ClipPhase), None]},
        "step": _WHOLE,
        "steps": _WHOLE,
        "part": maybe(_NUMBER) | {"description": "The fraction of the picture that is decoded."},
        "seconds_left": maybe(_NUMBER),
        "seconds": maybe(_NUMBER),
        "error": maybe(_TEXT),
        "note": maybe(_TEXT),
        "waits": maybe(_TEXT) | {"description": "The job that this one continues, while it waits for it."},
        "blocked": {"type": "boolean", "description": "Whether it waits in vain; `waits` says what to do."},
        "clip": maybe(_TEXT) | {"description": "The name of the file."},
        "improvement": {
            "type": ["object", "null"],
            "properties": {"upscaler": maybe(_TEXT), "fps": maybe(_WHOLE), "sha256": maybe(_TEXT)},
            "description": "What the job does to a clip, if it makes no new one.",
        },
        "spec": {"type": "object", "description": "All settings of the clip."},
    }
    meta = {"type": "object", "properties": {"_type": {"const": "gradio.FileData"}}}
    upload = {"type": ["object", "null"], "properties": {"path": _TEXT, "meta": meta}, "required": ["path", "meta"]}
    file = {"type": "object", "properties": {"url": _TEXT, "orig_name": _TEXT, "size": maybe(_WHOLE)}}
    return {"Job": {"type": "object", "properties": job}, "Upload": upload, "File": file, "Film": _film_schema()}


def _film_schema() -> dict[str, Any]:
    take = {
        "number": _WHOLE,
        "job": _TEXT,
        "seed": _WHOLE,
        "state": {"type": "string", "enum": [*(str(state) for state in JobState), "blocked", "deleted"]},
        "message": _TEXT,
        "clip": {"type": ["string", "null"], "description": "The name of the file."},
        "chosen": {"type": "boolean"},
        "scores": {
            "type": ["object", "null"],
            "description": "What was measured, as `review` prints it, or `error`; null: not checked yet.",
        },
    }
    shot = {
        "id": _TEXT,
        "continues": {"type": ["string", "null"], "description": "The shot with whose last frame it begins."},
        "takes": {"type": "array", "items": {"type": "object", "properties": take}},
    }
    film = {
        "film": {"type": "object", "description": "The film as in film.yaml."},
        "done": {**_WHOLE, "description": "Shots whose chosen take is made."},
        "shots": {"type": "array", "items": {"type": "object", "properties": shot}},
    }
    return {"type": "object", "properties": film}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _said(sentence: str) -> dict[str, Any]:
    return {"description": sentence}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        opened = Studio.open(f"{folder}/outputs")
        print(render(describe_api(opened)), end="")
        opened.close()
