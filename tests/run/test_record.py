"""What a record says of a cell."""

from __future__ import annotations

import pytest
from tests.run.toy_stages import Note, run

from polm_bench.run import record
from polm_bench.run.store import Store


@pytest.fixture
def outcomes(tmp_path, monkeypatch):
    """What running a stage with all that it needs gives."""
    monkeypatch.setenv("TOY_LOG", str(tmp_path / "log"))
    store = Store(tmp_path / "store")
    return lambda stage: run([stage], store)


def test_what_a_model_answers_with_is_paid_for_too(outcomes):
    base = Note("base")
    tuned, ranker = Note("tuned", (base,)), Note("the ranker", (base,))
    judge = Note("judge", (tuned, ranker))
    found = outcomes(judge)
    assert record._cost(tuned, judge, found)["tokens_trained"] == len("tuned") + len("the ranker")
    assert record._cost(tuned, None, found)["tokens_trained"] == len("tuned")  # the suite can't be put to it
