"""Where the configuration and the state of runs lie."""

from __future__ import annotations

import os
from pathlib import Path

from polm_bench.errors import PolmError

PACKAGE = Path(__file__).resolve().parent


def conf_dir() -> Path:
    """Folder of the YAML groups: inside an installed package, else at the root of the checkout.

    Found from this file and never by searching site-packages: an editable install leaves a stale copy of conf/ there.
    Raises PolmError when neither place has it.
    """
    places = (PACKAGE / "conf", PACKAGE.parent.parent / "conf")
    for place in places:
        if (place / "run.yaml").is_file() or (place / "recipe").is_dir():
            return place
    raise PolmError(f"no configuration found: looked for {' and '.join(map(str, places))}. Reinstall polm-bench.")


def home() -> Path:
    """Folder of the store, the records and MLflow's database: `POLM_HOME`, else `.polm` in the working folder."""
    return Path(os.environ.get("POLM_HOME") or ".polm").expanduser().absolute()


def slug(name: str) -> str:
    """A name as a part of a record's, whose parts are joined by dashes."""
    return name.replace("-", "_").replace("/", "_")


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a file lies in the folder with all links followed; those of the hub's cache lead from its snapshots to its blobs."""
    real, root = path.resolve(), folder.resolve()
    blobs = [parent.parent / "blobs" for parent in root.parents if parent.name == "snapshots"]
    return real.is_relative_to(root) or real.parent in blobs
