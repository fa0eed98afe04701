#!/usr/bin/env bash
# Sets Ovi Studio up in .venv and runs it.
#   ./launch.sh                 the page on http://localhost:7860
#   ./launch.sh check           layout, types, layers and quick tests, in about a minute
#   ./launch.sh test            all tests
#   ./launch.sh test-gpu        checks on a GPU of 24 GB or more
#   ./launch.sh --farm ADDRESS  the page, and other machines that make its clips (docs/farm.md)
#   ./launch.sh join ADDRESS    make the clips of another machine's page
#   ./launch.sh generate ...    any command of `python -m ovi_studio`
# Set-up is skipped when requirements.txt and constraints.txt have not changed since the last time; the first check or
# test also sets up what tests need (the extra `test` of pyproject.toml).
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

# install STAMP LIST FILE...: what LIST names, unless STAMP says that it was done with LIST and FILEs as they are now.
install() {
  local stamp=$1 list=$2
  shift
  if ! cat "$@" | cmp -s - "$stamp"; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$list" -c constraints.txt
    # Last, so that an interrupted set-up is done again.
    cat "$@" >"$stamp"
  fi
}

set_up() {
  if ! .venv/bin/python -c '' 2>/dev/null; then
    local python
    python=$(find_python)
    echo "Setting up in .venv; the first time this downloads some gigabytes ..." >&2
    "$python" -m venv --clear .venv
  fi
  install .venv/requirements.installed requirements.txt constraints.txt
}

set_up_tests() {
  .venv/bin/python tests/support/list_test_tools.py test >.venv/test-tools.txt
  install .venv/test-tools.installed .venv/test-tools.txt constraints.txt
  # Alone: torchvision, which spandrel names but works without, fails to import beside another build of torch.
  .venv/bin/python tests/support/list_test_tools.py improve >.venv/improve.txt
  PIP_NO_DEPS=1 install .venv/improve.installed .venv/improve.txt constraints.txt
}

set_up_ray() {
  echo ray >.venv/ray.txt
  install .venv/ray.installed .venv/ray.txt constraints.txt
}

set_up
case " ${1:-} $* " in
  " join "* | *" --farm "* | *" --farm="* | *" --ray-address "* | *" --ray-address="*) set_up_ray ;;
esac
case "${1:-}" in
  "" | --*) exec .venv/bin/python app.py "$@" ;;
  check)
    set_up_tests
    exec .venv/bin/python tests/check.py
    ;;
  test)
    shift
    set_up_tests
    .venv/bin/ruff format --check .
    .venv/bin/ruff check .
    # One more than cores, since many tests wait for a browser or for processes.
    workers=$(.venv/bin/python -c 'import os; print(min(4, (os.cpu_count() or 1) + 1))')
    exec .venv/bin/python -m pytest -n "$workers" --dist loadfile --no-loadscope-reorder "$@"
    ;;
  test-gpu)
    shift
    exec .venv/bin/python tests/gpu "$@"
    ;;
  *) exec .venv/bin/python -m ovi_studio "$@" ;;
esac
