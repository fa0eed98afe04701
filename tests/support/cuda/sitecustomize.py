"""For processes of tests: the cards that the starting process described (see `fake_cuda`)."""

import os
import sys
from pathlib import Path

if "OVI_TEST_CARDS" in os.environ:
    sys.path += [str(Path(__file__).parents[1]), str(Path(__file__).parents[3])]
    from fake_cuda import install_from_environment

    install_from_environment()
