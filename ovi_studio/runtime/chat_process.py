"""The process of a local chat model: `python -m ovi_studio.runtime.chat_process MODEL`, a folder or a hub name.

Reads a conversation, a JSON list of messages, from every line of its input, and writes a line with `{"text"}` or
`{"error"}`, a sentence. No code of a model's repository is run, and no pickles are read.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

MAX_NEW_TOKENS = 600


class ChatProcess:
    """A chat model on the CPU."""

    def __init__(self, name: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        given: dict[str, Any] = {"trust_remote_code": False}
        self._tokenizer = AutoTokenizer.from_pretrained(name, **given)
        if not self._tokenizer.chat_template:
            raise ValueError(f"{name} has no chat template; choose a model that is made for conversations.")
        self._model = AutoModelForCausalLM.from_pretrained(
            name, dtype=torch.bfloat16, use_safetensors=True, low_cpu_mem_usage=True, **given
        ).eval()

    def answer(self, messages: list[dict[str, Any]]) -> str:
        import torch

        if any(not isinstance(message["content"], str) for message in messages):
            raise ValueError("A local model cannot look at pictures; use a server with a model that can.")
        inputs = self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            # Always the same suggestion for the same prompt.
            output = self._model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        new = output[0, inputs["input_ids"].shape[1] :]
        if len(new) == MAX_NEW_TOKENS:
            raise ValueError("The local model did not end its answer; try again, or use another model.")
        return str(self._tokenizer.decode(new, skip_special_tokens=True))


def main() -> None:
    # Libraries print; only answers may be on the output.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    name = sys.argv[1]
    process: ChatProcess | None = None
    for line in sys.stdin:
        try:
            process = process or load(name)
            found = {"text": process.answer(json.loads(line))}
        except ValueError as error:
            found = {"error": str(error)}
        print(json.dumps(found), file=answers, flush=True)


def load(name: str) -> ChatProcess:
    """Load a chat model; raises `ValueError` with a sentence if it is none."""
    try:
        return ChatProcess(name)
    except (OSError, ValueError, ImportError) as error:
        if isinstance(error, ValueError) and str(error).startswith(name):
            raise
        where = "folder" if Path(name).is_dir() else "model"
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"The {where} {name} is not a chat model that can be loaded here ({reason}); --helper-model needs a folder "
            f"or hub name with safetensors files."
        ) from error


if __name__ == "__main__":
    main()
