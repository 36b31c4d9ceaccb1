"""The other end of `launch=process`: one stage, as a job file describes it."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def work(job_file: Path) -> int:
    """Run the stage that the file names and write its result; 0 when the result says how it went, whatever that is."""
    from polm_bench.config import plan
    from polm_bench.errors import PartDone, PolmError, StoreError
    from polm_bench.run.execute import classify, perform
    from polm_bench.run.interrupt import stoppable
    from polm_bench.run.isolate import die_with, job_of, one_of, write_result

    told = json.loads(job_file.read_text())
    die_with(told["parent"])
    job = job_of(told)
    stages = {stage.key: stage for stage in plan(told["overrides"]).stages()}
    if told["key"] not in stages:
        raise PolmError(
            f"planning {told['overrides']} again gives no stage {told['key']}: did a file of conf/ or of the code change?"
        )
    error = None
    try:
        one_of(job)
        with stoppable(job, lambda text: print(text, file=sys.stderr)):
            perform(stages[told["key"]], job)
    except StoreError as mistake:
        error = {"kind": "store", "text": str(mistake)}
    except PolmError as mistake:
        error = {"kind": "mistake", "text": str(mistake)}
    except PartDone:
        error = None
    except KeyboardInterrupt:
        error = {"kind": "interrupted", "text": ""}
    except Exception as failure:  # noqa: BLE001  # every other failure is a result of the cell
        error = {"kind": classify(failure), "text": f"{type(failure).__name__}: {failure}"}
    write_result(job, error)
    return 0
