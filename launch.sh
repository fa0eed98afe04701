#!/usr/bin/env bash
# Sets Ovi Studio up in .venv and runs it.
#   ./launch.sh                 the page on http://localhost:7860
#   ./launch.sh test            all tests
#   ./launch.sh test-gpu        checks on a GPU of 24 GB or more
#   ./launch.sh generate ...    any command of `python -m ovi_studio`
# Set-up is skipped when requirements.txt has not changed since the last time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3 python; do
    if [ -n "$candidate" ] && "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "Ovi Studio needs Python 3.11 or newer with venv; install it, or name it in the variable PYTHON." >&2
  exit 1
}

set_up() {
  local python stamp=.venv/requirements.installed
  if [ -f "$stamp" ] && cmp -s requirements.txt "$stamp" && .venv/bin/python -c '' 2>/dev/null; then
    return
  fi
  python=$(find_python)
  echo "Setting up in .venv; the first time this downloads some gigabytes ..." >&2
  [ -x .venv/bin/python ] && .venv/bin/python -c '' 2>/dev/null || "$python" -m venv --clear .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
  # Last, so that an interrupted set-up is done again.
  cp requirements.txt "$stamp"
}

set_up
case "${1:-}" in
  "" | --*) exec .venv/bin/python app.py "$@" ;;
  test)
    shift
    .venv/bin/ruff format --check .
    .venv/bin/ruff check .
    exec .venv/bin/python -m pytest "$@"
    ;;
  test-gpu)
    shift
    exec .venv/bin/python tests/gpu "$@"
    ;;
  *) exec .venv/bin/python -m ovi_studio "$@" ;;
esac
