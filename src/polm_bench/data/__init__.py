"""Rows for a role. The sources that `conf/data/` names are imported when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from polm_bench.data.files import FileData
    from polm_bench.data.formats import RoleMap
    from polm_bench.data.hub import HubData
    from polm_bench.data.nano.source import Nano
    from polm_bench.data.path import path_data
    from polm_bench.data.reviews import Reviews

__all__ = ["FileData", "HubData", "Nano", "Reviews", "RoleMap", "path_data"]

_HOME = {
    "FileData": "polm_bench.data.files",
    "HubData": "polm_bench.data.hub",
    "Nano": "polm_bench.data.nano.source",
    "Reviews": "polm_bench.data.reviews",
    "RoleMap": "polm_bench.data.formats",
    "path_data": "polm_bench.data.path",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
