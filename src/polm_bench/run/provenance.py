"""What a result was made with: versions, commit, machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = [
    "polm-bench",
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "lm-eval",
    "tokenizers",
    "safetensors",
    "hydra-core",
    "mlflow",
    "numpy",
    "vaderSentiment",
]


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can move a number; those that are not installed are left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def git() -> dict[str, Any]:
    """Commit of the checkout this package runs from, and whether it has changes; nulls for an installed wheel."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return {"commit": None, "dirty": None}
    commit = _git(root, "rev-parse", "HEAD")
    return {
        "commit": commit or None,
        "dirty": bool(_git(root, "status", "--porcelain", "--", "src", "conf")) if commit else None,
    }


def _git(root: Path, *words: str) -> str:
    try:
        return subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=20, check=False
        ).stdout.strip()
    except OSError:
        return ""


@cache
def machine() -> dict[str, Any]:
    """Processor, cores, memory and accelerators."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "devices": _devices(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _devices() -> list[str]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def threads() -> int | None:
    """PyTorch's threads on the CPU, on which the last bits of results depend; null before PyTorch is loaded."""
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch is not None else None
