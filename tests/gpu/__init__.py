"""Checks that need a GPU: `python tests/gpu`, or `./launch.sh test-gpu`. `cli` has the options, `checks` the list."""
