"""Scripts in the page's head, each in a function of its own, and the words that they show."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def head_script(files: Iterable[Path], constants: Mapping[str, Any]) -> str:
    """Return a `<script>` of files that run together, which see each of `constants` under its name."""
    given = "".join(f"const {name} = {json.dumps(value, ensure_ascii=False)};\n" for name, value in constants.items())
    scripts = "\n".join(path.read_text(encoding="utf-8") for path in files)
    return f"<script>(() => {{\n{given}{scripts}\n}})();</script>"
