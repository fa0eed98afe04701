"""A process that supervises engines, like the web process: `web_process.py OUTPUTS COMMAND`, the command as JSON."""

import json
import sys
import time

from ovi_studio.engine.supervisor import Supervisor
from ovi_studio.queue.store import Store

supervisor = Supervisor(Store.open(sys.argv[1]), json.loads(sys.argv[2]), back_off=(0.02, 0.05, 0.1))
supervisor.start()
print("up", flush=True)
time.sleep(600)
