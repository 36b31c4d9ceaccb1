"""MLflow's own server in a thread of this process, with what can go wrong before it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from polm_bench.drill.cell import Json
from polm_bench.run.track import quiet

LOOPBACK = "127.0.0.1"
URI = "MLFLOW_TRACKING_URI"


class Faults:
    """Lets requests through late, or refuses those with a value that is too long or with something unwanted; as it is told while it serves."""

    def __init__(self, behind: Callable[..., Iterable[bytes]]) -> None:
        self.behind = behind
        self.delay = 0.0  # seconds before a request is looked at
        self.longest: int | None = None  # characters of a value
        self.unwanted: bytes | None = None  # in a request
        self.address = ""

    def __call__(self, environ: Json, start: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        time.sleep(self.delay)
        if (self.longest is not None and _longest(json.loads(body or "{}")) > self.longest) or (
            self.unwanted is not None and self.unwanted in body
        ):
            start("400 Bad Request", [("Content-Type", "application/json")])
            return [json.dumps({"error_code": "INVALID_PARAMETER_VALUE", "message": "a value is too long"}).encode()]
        return self.behind(environ | {"wsgi.input": BytesIO(body)}, start)


@contextmanager
def served(folder: Path) -> Iterator[Faults]:
    """A server with a database of its own under `folder`, while the block runs. One in a process: MLflow keeps its store for good."""
    from mlflow.server import app
    from mlflow.server.handlers import initialize_backend_stores

    quiet()
    with addressed({}):
        initialize_backend_stores(
            f"sqlite:///{folder / 'mlflow.db'}", default_artifact_root=(folder / "artifacts").as_uri()
        )
    faults = Faults(app)
    with make_server(LOOPBACK, 0, faults, _Server, _Silent) as server:
        faults.address = f"http://{LOOPBACK}:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield faults
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *values: Any) -> None:  # noqa: A002  the name that the base class gives it
        """Not told."""


def _longest(told: Any) -> int:
    """Length of the longest `value` of params and tags in a request."""
    if isinstance(told, dict):
        own = [len(value) for name, value in told.items() if name == "value" and isinstance(value, str)]
        return max([*own, *map(_longest, told.values())], default=0)
    if isinstance(told, list):
        return max(map(_longest, told), default=0)
    return 0


@contextmanager
def addressed(environment: Mapping[str, str]) -> Iterator[None]:
    """Set MLflow's address, or none, while the block runs; MLflow sets it too, for processes that start later."""
    before = os.environ.pop(URI, None)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.pop(URI, None)
        if before is not None:
            os.environ[URI] = before
