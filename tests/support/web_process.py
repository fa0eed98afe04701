"""A process that supervises engines, like the web process: `web_process.py OUTPUTS COMMAND`, the command as JSON."""

import json
import sys
import time

from warm_start import is_forked, start_sibling

from ovi_studio.engine.supervisor import Supervisor, start_engine
from ovi_studio.queue.store import Store

supervisor = Supervisor(
    Store.open(sys.argv[1]),
    json.loads(sys.argv[2]),
    back_off=(0.02, 0.05, 0.1),
    start_engine=start_sibling if is_forked() else start_engine,
)
supervisor.start()
print("up", flush=True)
time.sleep(600)
