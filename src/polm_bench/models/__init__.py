"""Models as folders: what they are, where they come from, loading and saving. `conf/model/` names `Model` and `Wheel`."""

from __future__ import annotations

from polm_bench.models.spec import Model, Wheel

__all__ = ["Model", "Wheel"]
