"""Prints the tests that failed in their last run, one per line, from pytest's cache."""

import json
from pathlib import Path

found = Path(__file__).parents[2] / ".pytest_cache" / "v" / "cache" / "lastfailed"
print("\n".join(sorted(json.loads(found.read_text(encoding="utf-8")))) if found.is_file() else "")
