"""For nodes of Ray that a test starts by command with this folder in PYTHONPATH: they have no real agents."""

import sys
from pathlib import Path

if "ray.scripts.scripts" in sys.orig_argv:
    sys.path.append(str(Path(__file__).parents[1]))
    from idle_agent import replace_agents

    replace_agents()
