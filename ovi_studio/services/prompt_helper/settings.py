"""The owner's settings of the helper: options of the command line and an environment variable, never a client's."""

import argparse
import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ovi_studio.core.errors import JobError
from ovi_studio.services.prompt_helper.chat import SECONDS, ChatModel

KEY_VARIABLE = "OVI_STUDIO_HELPER_KEY"


@dataclass(frozen=True)
class HelperSettings:
    """Which chat model helps with prompts; with neither address nor local model there is no helper."""

    address: str = ""
    """Of an OpenAI-compatible server, such as http://localhost:11434."""
    model: str = ""
    """The server's model, or with no address the folder or hub name of a local one."""
    key: str = field(default="", repr=False)
    seconds: float = SECONDS
    """How long an answer may take."""

    def __post_init__(self) -> None:
        if self.address:
            _check_address(self.address)
            if not self.model:
                raise JobError("--helper needs --helper-model: the name of a model that the server has.")
        if not 1 <= self.seconds <= 3600:
            raise JobError(f"--helper-seconds must be between 1 and 3600, not {self.seconds:g}.")

    @property
    def given(self) -> bool:
        """Whether there is a helper."""
        return bool(self.model)

    @property
    def place(self) -> str:
        """Where prompts go; shown to everybody who is about to send one."""
        if self.address:
            return f"the server at {urlsplit(self.address).netloc.rpartition('@')[2]} ({self.model})"
        return f"a model on this machine ({self.model})"

    def connect(self) -> ChatModel:
        """Return the chat model; a local one starts with its first question. Raises `JobError` if there is none."""
        if not self.given:
            raise JobError(
                "No helper for prompts is set up; the owner of this studio can start it with --helper ADDRESS "
                "--helper-model NAME (a server such as Ollama), or with --helper-model FOLDER (a local model)."
            )
        if self.address:
            from ovi_studio.services.prompt_helper.server_chat import ServerChat

            return ServerChat(self.address, self.model, self.key, self.place)
        from ovi_studio.services.prompt_helper.local_chat import LocalChat

        return LocalChat(self.model, self.place)

    @classmethod
    def add_to(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options of the command line."""
        group = parser.add_argument_group("helper for prompts")
        group.add_argument(
            "--helper",
            default="",
            metavar="ADDRESS",
            help=f"OpenAI-compatible server that rewrites prompts, such as http://localhost:11434; its key is read "
            f"from ${KEY_VARIABLE}",
        )
        group.add_argument(
            "--helper-model",
            default="",
            metavar="NAME",
            help="the server's model; without --helper, folder or hub name of a chat model that runs on the CPU here",
        )
        group.add_argument(
            "--helper-seconds",
            type=float,
            default=SECONDS,
            metavar="S",
            help="how long an answer may take (default: %(default)g)",
        )

    @classmethod
    def of(cls, options: argparse.Namespace) -> "HelperSettings":
        """From parsed options. Raises `JobError`."""
        key = os.environ.get(KEY_VARIABLE, "").strip()
        return cls(options.helper.strip(), options.helper_model.strip(), key, options.helper_seconds)


def _check_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise JobError(f"--helper {address} is not an address such as http://localhost:11434.")
    if parts.username or parts.password:
        raise JobError(f"--helper must not contain a password; set the key in ${KEY_VARIABLE}.")
