"""For launchers that a test starts with this folder in PYTHONPATH: they fork their ranks."""

import sys

LAUNCHER = "ovi_studio.distributed.launcher"

if LAUNCHER in sys.orig_argv:
    import forking_launcher

    def after(option: str) -> str:
        return sys.orig_argv[sys.orig_argv.index(option) + 1]

    forking_launcher.prepare(int(after("--num_processes")), after("--module"))
