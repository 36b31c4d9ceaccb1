"""`ui`, `doctor` and `track replay`: the world around the records."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from argparse import Namespace
from typing import Any

from polm_bench.cli.printing import only_ours_on_stdout, print_json, print_rows
from polm_bench.errors import PolmError
from polm_bench.paths import home


def ui(arguments: Namespace) -> int:
    """Become the MLflow UI over this store; does not return while it serves."""
    from polm_bench.run.redact import scrub
    from polm_bench.run.track import initialise, tracking_uri

    host, port, place = arguments.host, arguments.port, home()
    uri = tracking_uri(place)
    if uri.startswith(("http://", "https://", "databricks")):
        raise PolmError(f"MLFLOW_TRACKING_URI is {uri}, a server with a UI of its own: open that address.")
    _check_address(host, port)
    experiment = initialise(place)
    shown = f"[{host}]" if ":" in host else host
    print(
        f"MLflow UI over {scrub(uri)}\nopen http://{shown}:{port}/#/experiments/{experiment}/runs   (Ctrl-C ends it)",
        flush=True,
    )
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", host, "--port", str(port)]
    command += ["--default-artifact-root", (place / "mlartifacts").as_uri(), "--workers", "1"]
    # jobs that judge the traces of LLM applications, of which there are none here: a process for each of six kinds, and two more
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    os.execv(sys.executable, command)


def doctor(arguments: Namespace) -> int:
    """Say what is installed; 1 when something that is needed is missing or out of its range."""
    from polm_bench.run.doctor import examine

    with only_ours_on_stdout(arguments.json) as out:
        found = examine(home())
        if arguments.json:
            print_json(found, out)
        else:
            _print_doctor(found)
    return 0 if found["ok"] else 1


def track(_: Namespace) -> int:
    """Bring MLflow level with the records."""
    from polm_bench.run.redact import scrub
    from polm_bench.run.track import replay, tracking_uri
    from polm_bench.tune.track import replay_trials

    place = home()
    total = len(list((place / "records").glob("*.json")))
    count = replay(place)
    replay_trials(place)
    print(f"{count} of {total} records mirrored to {scrub(tracking_uri(place))}; the others were there already.")
    return 0


def _check_address(host: str, port: int) -> None:
    """Raises PolmError for an address others could reach (the UI has no log-in), and for a port in use."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise PolmError(
            f"--host {host} is no loopback address, and the UI has no log-in: anybody who reaches it can change runs. "
            "Leave it at 127.0.0.1 and forward the port (ssh -L)."
        )
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        raise PolmError(
            f"port {port} of {host} can't be had ({error.strerror}). Choose another with --port."
        ) from error


def _print_doctor(found: dict[str, Any]) -> None:
    for part in ("machine", "paths"):
        print_rows([{"": name, "value": value} for name, value in found[part].items()], ("", "value"), title=part)
        print()
    print_rows(found["packages"], ("package", "installed", "wanted", "state"), title="needed")
    print()
    print_rows(found["optional"], ("part", "for", "state", "install"), title="optional")
    if found["problems"]:
        print("\nproblems:\n" + "\n".join(f"- {problem}" for problem in found["problems"]))
    else:
        print("\nNothing that is needed is missing.")
