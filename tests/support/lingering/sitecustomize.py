"""For ranks that a test starts: a thread that never ends and would be waited for, as NCCL's may."""

import os
import threading

if "LOCAL_RANK" in os.environ:
    threading.Thread(target=threading.Event().wait, name="lingering").start()
