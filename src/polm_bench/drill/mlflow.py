"""An MLflow that is down, slow, refuses what it is told, or has a locked database, each under a cell that runs."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from polm_bench.drill.cell import NOTHING, Json, Start, Verdict, differences, essence, log_of, must_end_well, start
from polm_bench.drill.server import URI, Faults, addressed, served
from polm_bench.errors import PolmError
from polm_bench.run import track

CELL = ("+recipe=ipo", "track=mlflow")
WRITERS = 8
SLOW = 10.0  # seconds a call
NOBODY = "http://127.0.0.1:1"  # a port that takes no connection
GOES_ON = "a cell ends well whatever MLflow does, and says what MLflow did not take"
EQUAL = "records, items and weights are those of a cell whose MLflow is well"
LEVEL = "`polm-bench track replay` brings MLflow level, each record once"


def drill(folder: Path, say: Callable[[str], None], start: Start = start, slow: float = SLOW) -> Verdict:
    """The same cell under each fault, in a home of its own, and MLflow brought level after it."""
    verdict = Verdict("mlflow")
    started = time.monotonic()
    with served(folder) as server:
        _empty(folder / "well", {URI: server.address})  # MLflow keeps the store of an earlier server in this process
        wanted = _undisturbed(start, folder / "well", server)
        for name in ("down", "slow", "refuses", "locked"):
            home = folder / name
            begun = time.monotonic()
            writers = WRITERS if name == "locked" else 1
            with _fault(name, home, server, slow) as environment:
                processes = [
                    start(CELL, home, log=folder / f"{name}-{number}.log", environment=environment)
                    for number in range(writers)
                ]
                for process in processes:
                    process.join()
            said = [(folder / f"{name}-{number}.log").read_text() for number in range(writers)]
            verdict.figures[name] = f"{time.monotonic() - begun:.1f} s"
            well = [process.exitcode == 0 for process in processes]
            told = ["polm-bench track replay" in text for text in said]
            verdict.see(GOES_ON, [] if all(well) and all(told) else [f"{name}: ended well: {well}, said: {told}"])
            verdict.see(EQUAL, [f"{name}: {place}" for place in differences(wanted, essence(home))])
            verdict.see(LEVEL, _level(name, home, NOTHING if name == "locked" else {URI: server.address}))
            say(f"{name}: ended, and level after replaying")
    verdict.figures |= {"writers on the locked database": WRITERS, "seconds": round(time.monotonic() - started, 1)}
    return verdict


def _undisturbed(start: Start, home: Path, server: Faults) -> Json:
    must_end_well(start(CELL, home, environment={URI: server.address}), home)
    if "polm-bench track replay" in log_of(home).read_text():
        raise PolmError(f"MLflow did not take the record of an undisturbed cell: {log_of(home)} says why")
    return essence(home)


@contextmanager
def _fault(name: str, home: Path, server: Faults, slow: float) -> Iterator[Mapping[str, str]]:
    """The environment of cells whose MLflow has this fault."""
    if name == "locked":
        with addressed({}):
            track.initialise(home)
        with closing(sqlite3.connect(home / "mlflow.db", isolation_level=None)) as database:
            database.execute("BEGIN EXCLUSIVE")
            yield {URI: f"sqlite:///{home / 'mlflow.db'}"}
        return
    server.delay, server.longest = (slow if name == "slow" else 0.0), (0 if name == "refuses" else None)
    patience = {"MLFLOW_HTTP_REQUEST_TIMEOUT": f"{slow:.0f}"} if name == "slow" else NOTHING
    yield {URI: NOBODY if name == "down" else server.address, **patience}
    server.delay, server.longest = 0.0, None


def _level(name: str, home: Path, environment: Mapping[str, str]) -> list[str]:
    """How MLflow differs from the home's one record once it was replayed; leaves MLflow empty for the next home."""
    with addressed(environment):
        mirrored = track.replay(home)
        again = track.replay(home)
    runs = _empty(home, environment)
    children = sum("mlflow.parentRunId" in tags for tags in runs)
    found = [mirrored, again, children, len(runs) - children]
    return [] if found == [1, 0, 1, 1] else [f"{name}: mirrored {found[0]}, then {found[1]}; {found[2:]} runs, parents"]


def _empty(home: Path, environment: Mapping[str, str]) -> list[Mapping[str, str]]:
    """Delete the runs that MLflow has; gives their tags."""
    from mlflow import MlflowClient

    with addressed(environment):
        client = MlflowClient(track.tracking_uri(home))
        runs = client.search_runs([track.initialise(home)])
        for run in runs:
            client.delete_run(run.info.run_id)
    return [run.data.tags for run in runs]
