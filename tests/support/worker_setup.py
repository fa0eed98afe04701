"""What Ray runs in place of its `setup_worker.py` to start a worker of a test.

That one imports all of Ray to read two options, of a runtime environment that no test has.
"""

import os
import sys

UNUSED = ("--serialized-runtime-env-context", "--language")

command = [sys.executable, *(each for each in sys.argv[1:] if each.partition("=")[0] not in UNUSED)]
os.execv(command[0], command)
