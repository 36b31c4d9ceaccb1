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
