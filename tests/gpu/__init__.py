"""Checks for whoever has a GPU: `python tests/gpu`, or `./launch.sh test-gpu`. `cli` says how, `checks` lists them."""
