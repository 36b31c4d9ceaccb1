from __future__ import annotations

from pathlib import Path

import pytest
from tests.report.synthetic import write_spine

from polm_bench.report.spec import TableSpec


@pytest.fixture(scope="session")
def spine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the records of six recipes and three seeds. Read it, don't write to it."""
    return write_spine(tmp_path_factory.mktemp("spine") / "records")


@pytest.fixture
def spec() -> TableSpec:
    return make_spec()


def make_spec(**changes: object) -> TableSpec:
    place = {"models": ["nano"], "data": ["nano"], "budgets": ["nano"], "suites": ["nano"]}
    given = {
        "name": "spine",
        "title": "Six methods",
        "recipes": ["base", "sft", "lora", "dpo", "simpo", "kto"],
        "seeds": [0, 1, 2],
    }
    return TableSpec(**{**given, **place, **changes})
