"""What this machine and this environment offer, and what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from pathlib import Path
from typing import Any

from polm_bench import __version__
from polm_bench.errors import PolmError
from polm_bench.paths import PACKAGE, conf_dir
from polm_bench.run.redact import scrub

LOW_DISK = 5e9  # bytes; a full checkpoint of a 135M model with its optimiser takes two


def examine(home: Path) -> dict[str, Any]:
    """JSON values: machine, paths, packages, optional parts, problems."""
    packages = _packages()
    paths = _paths(home)
    machine = _machine()
    problems = [f"{one['package']}: {one['state']}" for one in packages if one["state"] != "ok"]
    problems += _path_problems(home, paths) + _silent_problems()
    return {
        "ok": not problems,
        "polm_bench": __version__,
        "machine": machine,
        "paths": paths,
        "packages": packages,
        "optional": _optional(),
        "problems": problems,
    }


def _machine() -> dict[str, Any]:
    import psutil

    found: dict[str, Any] = {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": f"{psutil.virtual_memory().total / 1e9:.1f} GB",
    }
    if importlib.util.find_spec("torch") is None:
        return found | {"devices": "unknown: torch is not installed"}
    import torch

    devices = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return found | {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "not set"),
        "devices": devices or ["cpu"],
        "bf16": torch.cuda.is_bf16_supported() if devices else False,
    }


def _paths(home: Path) -> dict[str, Any]:
    existing = next(path for path in (home, *home.parents) if path.exists())
    return {
        "package": str(PACKAGE),
        "conf": str(conf_dir()),
        "home": str(home),
        "disk_free": f"{shutil.disk_usage(existing).free / 1e9:.1f} GB",
        "MLFLOW_TRACKING_URI": scrub(os.environ.get("MLFLOW_TRACKING_URI", "not set: SQLite in home")),
        "browser": shutil.which("chromium") or shutil.which("google-chrome") or "none (only a test needs one)",
    }


def _packages() -> list[dict[str, str]]:
    """Each needed package with the range that polm-bench asks for."""
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires("polm-bench") or []
    except importlib.metadata.PackageNotFoundError:
        raise PolmError(
            "polm-bench runs from its source but is not installed, so its requirements are unknown. Install it: pip install -e ."
        ) from None
    rows = []
    for wanted in map(Requirement, lines):
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        installed = _version(wanted.name)
        state = "ok" if installed and wanted.specifier.contains(installed, prereleases=True) else "missing"
        if installed and state != "ok":
            state = f"{installed} is outside {wanted.specifier}"
        rows.append(
            {"package": wanted.name, "installed": installed or "", "wanted": str(wanted.specifier), "state": state}
        )
    return rows


def _optional() -> list[dict[str, str]]:
    parts = (
        ("submitit", "slurm", "launch=slurm"),
        ("ray", "ray", "launch=ray"),
        ("optuna", "tune", "tuning trials"),
        ("mergekit", "merge", "merging recipes"),
        ("llmcompressor", "compress", "quantising and pruning recipes"),
        ("bitsandbytes", "compress", "4- and 8-bit recipes"),
        ("langdetect", "suites", "IFEval in suite=open_llm"),
        ("deepspeed", "", "launch=deepspeed (needs a GPU for each process)"),
        ("flash-attn", "", "the fastest attention on a GPU (needs a compiler and CUDA)"),
    )
    return [
        {
            "part": name,
            "for": use,
            "state": _version(name) or "missing",
            "install": ""
            if _version(name)
            else f"pip install 'polm-bench[{extra}]'"
            if extra
            else f"pip install {name}",
        }
        for name, extra, use in parts
    ]


def _path_problems(home: Path, paths: dict[str, Any]) -> list[str]:
    existing = next(path for path in (home, *home.parents) if path.exists())
    problems = []
    if not os.access(existing, os.W_OK):
        problems.append(f"{existing} is not writable: set POLM_HOME to a folder that is")
    if shutil.disk_usage(existing).free < LOW_DISK:
        problems.append(
            f"only {paths['disk_free']} free on the disk of {home}: `polm-bench ls records` tells what is there"
        )
    return problems


def _silent_problems() -> list[str]:
    """What makes imports fail later with a message that does not name the cause."""
    problems = []
    if _version("hqq") and not _version("termcolor"):
        problems.append("hqq without termcolor makes `import transformers` fail: pip install termcolor")
    return problems


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
