"""A home with a database that MLflow has migrated already."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from polm_bench.run import track


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that MLflow has migrated once; copying it saves each test five seconds."""
    home = tmp_path_factory.mktemp("template")
    track._client(home)
    return home / "mlflow.db"


@pytest.fixture
def tracked_home(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(template, tmp_path / "mlflow.db")
    return tmp_path
