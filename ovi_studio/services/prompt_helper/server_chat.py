"""A chat model behind an OpenAI-compatible server: Ollama, llama.cpp, vLLM, LM Studio and others.

Answers are read as they are streamed (server-sent events), or as one JSON object from a server that does not stream.
Redirects are not followed: they would send the prompt to a place that the owner has not chosen.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import httpx

from ovi_studio.core.errors import JobError
from ovi_studio.services.prompt_helper.chat import Deadline, Message, require_short

_MAX_BYTES = 4 * 2**20
"""Of a response, its frame included."""
_MAX_TOKENS = 1500
_SECONDS_TO_CONNECT = 5.0
_REASONS = {
    401: "refused the key; set the right one in $OVI_STUDIO_HELPER_KEY",
    403: "refused the key; set the right one in $OVI_STUDIO_HELPER_KEY",
    404: "has no such model, or speaks no OpenAI-compatible protocol at this address; correct --helper or "
    "--helper-model",
    429: "has had too many questions; try again later",
}


class ServerChat:
    """The model of a server."""

    def __init__(self, address: str, model: str, key: str, place: str) -> None:
        base = address.rstrip("/")
        if not urlsplit(base).path:
            base += "/v1"
        self._url = f"{base}/chat/completions"
        self._model = model
        self.place = place
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(headers=headers, follow_redirects=False, trust_env=False)

    def answer(self, messages: list[Message], deadline: Deadline) -> str:
        # In a thread that is left behind at the deadline: a time limit of httpx is one for each read.
        found: Future[str] = Future()
        Thread(target=_settle, args=(found, lambda: self._ask(messages, deadline)), daemon=True).start()
        try:
            return found.result(deadline.left)
        except TimeoutError as error:
            raise deadline.missed(self.place) from error

    def _ask(self, messages: list[Message], deadline: Deadline) -> str:
        body = {
            "model": self._model,
            "messages": [message.to_dict() for message in messages],
            "stream": True,
            "max_tokens": _MAX_TOKENS,
        }
        timeout = httpx.Timeout(deadline.left or 0.001, connect=min(_SECONDS_TO_CONNECT, deadline.left or 0.001))
        try:
            with self._client.stream("POST", self._url, json=body, timeout=timeout) as response:
                if response.status_code != 200:
                    raise self._error(_REASONS.get(response.status_code) or self._failure(response, deadline))
                return self._read(response, deadline)
        except httpx.ConnectError as error:
            raise self._error("does not answer; start it, or correct --helper") from error
        except httpx.ConnectTimeout as error:
            raise self._error("cannot be reached; start it, or correct --helper") from error
        except httpx.TimeoutException as error:
            raise deadline.missed(self.place) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._error("broke off its answer; try again") from error

    def close(self) -> None:
        self._client.close()

    def _read(self, response: httpx.Response, deadline: Deadline) -> str:
        text, finished = "", ""
        for event in self._events(response, deadline):
            problem = event.get("error")
            if problem:
                raise self._error(f"reports an error: {_said(problem)}")
            piece, reason, refusal = _piece(event)
            text += piece
            finished = reason or finished
            require_short(text, self.place)
            if refusal or reason == "content_filter":
                raise self._error(f"declined: {(refusal or 'its filter stopped the answer')[:200]}")
        if finished == "length":
            raise self._error("cut its answer off; try again, or use another model")
        return text

    def _events(self, response: httpx.Response, deadline: Deadline) -> Iterator[Mapping[str, Any]]:
        """Yield the JSON objects of the response; raises `JobError` if it is something else."""
        whole = ""
        for line in self._lines(response, deadline):
            if line.startswith("data:"):
                data = line[5:].strip()
                if data == "[DONE]":
                    return
                yield self._object(data)
            elif not line.startswith((":", "event:", "id:", "retry:")):
                whole += line
        if whole.strip():
            yield self._object(whole)

    def _lines(self, response: httpx.Response, deadline: Deadline) -> Iterator[str]:
        buffer, size = b"", 0
        for part in response.iter_bytes():
            deadline.require(self.place)
            size += len(part)
            if size > _MAX_BYTES:
                raise self._error("gave an answer without end; try again, or use another model")
            *lines, buffer = (buffer + part).split(b"\n")
            yield from (line.decode("utf-8", "replace").rstrip("\r") for line in lines)
        yield buffer.decode("utf-8", "replace")

    def _object(self, text: str) -> Mapping[str, Any]:
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, Mapping):
            raise self._error("does not answer as an OpenAI-compatible server does; correct --helper")
        return found

    def _failure(self, response: httpx.Response, deadline: Deadline) -> str:
        """What a status means that has no sentence of its own, in the server's own words if it gives any."""
        if response.is_redirect:
            return "sends to another address, which is not followed; name that address with --helper"
        try:
            reason = _said(next(self._events(response, deadline), {}).get("error"))
        except JobError:
            reason = ""
        shown = f"HTTP {response.status_code}{': ' if reason else ''}{reason}"
        return f"failed ({shown}); look at its log, or try again later"

    def _error(self, what: str) -> JobError:
        return JobError(f"{self.place[:1].upper()}{self.place[1:]} {what}.")


def _piece(event: Mapping[str, Any]) -> tuple[str, str, str]:
    """The text in an event, why the answer ended (empty: it has not), and why it was declined."""
    choices = event.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], Mapping) else {}
    message = choice.get("delta") or choice.get("message") or {}
    values = message if isinstance(message, Mapping) else {}
    found = values.get("content"), choice.get("finish_reason"), values.get("refusal")
    content, reason, refusal = (value if isinstance(value, str) else "" for value in found)
    return content, reason, refusal


def _said(problem: Any) -> str:
    """The message in an `error`, as servers give it: a text, or an object that holds one."""
    said = problem.get("message") if isinstance(problem, Mapping) else problem
    return "" if said is None else " ".join(str(said).split())[:200].rstrip(".")


def _settle(found: "Future[str]", ask: Callable[[], str]) -> None:
    try:
        found.set_result(ask())
    except BaseException as error:
        found.set_exception(error)
