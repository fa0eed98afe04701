"""For launchers that a test starts with this folder in PYTHONPATH: they fork their ranks."""

import sys

LAUNCHER = "ovi_studio.distributed.launcher"

if LAUNCHER in sys.orig_argv:
    import forking_launcher

    forking_launcher.prepare(sys.orig_argv)
