"""Stages of ranked answers: their rows, their reference, training, and lists of a model's own answers."""

from __future__ import annotations

import math

import pytest
from pydantic.dataclasses import dataclass
from safetensors.torch import load_file
from tests.stages.test_training import Given, run

from polm_bench.budget import Spend
from polm_bench.data.derived import read_rows, write_rows
from polm_bench.data.source import Rows
from polm_bench.decoding.sampling import Sampling
from polm_bench.errors import EmptyHarvest
from polm_bench.graph import FORBID
from polm_bench.models.load import load_tokenizer
from polm_bench.objectives import PlackettLuce
from polm_bench.stages import AgainstSamples, ReferenceLists, TrainLists
from polm_bench.stages.generate import ANSWERS, Generate
from polm_bench.stages.ranking import list_rows
from polm_bench.trainers.optim import Optim

pytestmark = pytest.mark.slow

ASKED = [{"role": "user", "content": "What do you think of the sea?"}]
SPEND = Spend("steps", 3, 4, 64)


@dataclass(frozen=True, config=FORBID)
class Remarks(Rows):
    """Ten prompts with three remarks each, one prompt with two."""

    def load(self, split):
        rows = [
            {"prompt": ASKED, "responses": ["It is bad.", f"It is good {n}.", "It is."], "scores": [-1.0, 1.0, 0.0]}
            for n in range(10)
        ]
        return [*rows, {"prompt": ASKED, "responses": ["Yes.", "No."], "scores": [1.0, 0.0]}]


def test_answers_stand_by_falling_score(toy_model):
    tokenizer = load_tokenizer(toy_model)
    (made,) = list_rows(tokenizer, [Remarks("ranking").load("train")[3]], max_length=64)
    assert made["scores"] == [1.0, 0.0, -1.0]
    texts = [
        tokenizer.decode(ids[-length:], skip_special_tokens=True).strip()
        for ids, length in zip(made["answers"], made["lengths"], strict=True)
    ]
    assert texts == ["It is good 3.", "It is.", "It is bad."]
    assert len({tuple(ids[:-length]) for ids, length in zip(made["answers"], made["lengths"])}) == 1


def test_training_on_lists_starts_at_its_reference_and_is_paid_for(toy_model, tmp_path):
    data = Remarks("ranking")
    reference = ReferenceLists(Given(), data, SPEND, 0)
    run(reference, tmp_path / "reference", {Given().key: toy_model})
    logps = load_file(tmp_path / "reference" / "out" / "logps.safetensors")["logps"]
    assert logps.shape == (11, 3)
    assert math.isnan(logps[10, 2].item()) or logps[10].isnan().all()  # the last row has two answers
    inputs = {Given().key: toy_model, reference.key: tmp_path / "reference" / "out"}
    stage = TrainLists(Given(), reference, PlackettLuce(beta=0.1), data, SPEND, Optim(lr=1e-3), 0)
    whole = run(stage, tmp_path / "whole", inputs)
    first = whole.curve_points[0]["loss"]
    assert math.log(2) < first <= math.log(6) + 1e-4
    assert whole.ledger.notes["steps"] == 3
    assert whole.ledger.amounts["tokens_trained"] > 0
    split = run(stage, tmp_path / "split", inputs, micro_batch=3)
    assert split.curve_points[-1]["loss"] == pytest.approx(whole.curve_points[-1]["loss"], rel=1e-3)
    assert split.ledger.amounts["tokens_trained"] == whole.ledger.amounts["tokens_trained"]


def answers(folder, texts: list[tuple[str, bool]]):
    folder.mkdir(parents=True)
    row = {"prompt": ASKED, "chosen": "Lovely.", "rejected": "Awful."}
    written = [{"text": text, "tokens": 3, "ended": ended} for text, ended in texts]
    write_rows(folder / ANSWERS, [{"number": 0, "row": row, "answers": written}])


def own_answers() -> AgainstSamples:
    return AgainstSamples(Generate(Given(), Remarks("preference"), Sampling(max_new_tokens=8), 2, SPEND, 0))


def test_a_models_own_answers_stand_before_the_rejected_one(tmp_path):
    answers(tmp_path / "made", [("Wide.", True), ("Never end", False), ("Awful.", True), ("Blue.", True)])
    stage = own_answers()
    run(stage, tmp_path / "lists", {stage.answers.key: tmp_path / "made"})
    (row,) = read_rows(tmp_path / "lists" / "out" / "rows.jsonl")
    assert row["responses"] == ["Wide.", "Blue.", "Awful."]
    assert row["scores"] == [1.0, 1.0, 0.0]


def test_a_model_that_never_ends_leaves_nothing_to_learn_from(tmp_path):
    answers(tmp_path / "made", [("Never end", False)])
    stage = own_answers()
    with pytest.raises(EmptyHarvest, match="nothing to set against the rejected"):
        run(stage, tmp_path / "lists", {stage.answers.key: tmp_path / "made"})
