"""What Ray runs on the nodes of tests in place of its two agents: `replace_agents`, and the program itself.

The real ones, of a dashboard and of runtime environments that no test has, import all of Ray, which takes a node longer
than everything else at its start. This one says that it has no ports, and ends when its node has ended, as they do.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

AGENTS = ("dashboard/agent.py", "_private/runtime_env/agent/main.py")
PORTS = {
    AGENTS[0]: ("dashboard_agent_listen_port", "metrics_agent_port", "metrics_export_port"),
    AGENTS[1]: ("runtime_env_agent_port",),
}
NONE = "-1"


def replace_agents(set_attribute: Callable[[Any, str, Any], None] = setattr) -> None:
    """Let the nodes that this process starts from now on have idle agents."""
    import ray
    from ray._private import services

    start = services.start_ray_process
    real = {str(Path(ray.__file__).parent / agent): f"{__file__} {agent}" for agent in AGENTS}

    def start_process(command: Sequence[str], *given: Any, **named: Any) -> Any:
        words = list(command)
        for program, idle in real.items():
            words = [word.replace(program, idle) for word in words]
        return start(words, *given, **named)

    set_attribute(services, "start_ray_process", start_process)


def main() -> None:
    agent, *options = sys.argv[1:]
    given = dict(option.removeprefix("--").split("=", 1) for option in options if "=" in option)
    for port in PORTS[agent]:
        file = Path(given["session-dir"]) / f"{port}_{given['node-id']}"
        part = file.with_name(f"{file.name}.part")
        part.write_text(NONE)
        part.rename(file)
    node = os.getppid()
    while os.getppid() == node:
        time.sleep(0.5)


if __name__ == "__main__":
    main()
