"""A worker that does as the folder's orders say for its number, instead of running a stage."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

from polm_bench.run import isolate

told = json.loads(Path(sys.argv[1]).read_text())
isolate.die_with(told["parent"])
job = isolate.job_of(told)
isolate.one_of(job)
order = json.loads((job.scratch / "orders.json").read_text())[job.rank]
if order == "hang":
    time.sleep(600)
if order == "die":
    os.kill(os.getpid(), signal.SIGKILL)
job.progress(1, 1, f"from {job.rank}")
job.curve(1, loss=float(job.rank))
job.ledger.add(tokens_trained=10 + job.rank)
job.ledger.peak(peak_host_bytes=100 + job.rank)
isolate.write_result(job, None if order == "work" else {"kind": order, "text": f"said by {job.rank}"})
