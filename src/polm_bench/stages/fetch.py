"""The stage that every graph starts from: a model folder made from a hub snapshot, a local folder, the package or a wheel."""

from __future__ import annotations

from polm_bench.models.fetch import FetchModel

__all__ = ["FetchModel"]
