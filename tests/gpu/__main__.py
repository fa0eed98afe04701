import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
# Replaces this folder, whose modules belong to the package `gpu`.
sys.path[:1] = [str(TESTS.parent), str(TESTS), str(TESTS / "support")]

from gpu.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
