"""Rows that teach to better an answer."""

from __future__ import annotations

from polm_bench.data import Nano
from polm_bench.data.corrections import Chains, Corrections, Revisions, Unchanged
from polm_bench.data.derived import Judgements
from polm_bench.data.source import Rows

NANO = Nano("nano")
ASK = "Better this answer. {prompt} {answer}"


class Ranked(Rows):
    """One ranking."""

    def load(self, split):
        prompt = [{"role": "user", "content": "How was it?"}]
        return [{"prompt": prompt, "responses": ["Bad.", "Great.", "Fine."], "scores": [-1.0, 1.0, 0.0]}]


def test_a_correction_asks_with_the_rejected_answer_and_is_the_chosen_one():
    pair = NANO.role("preference").load("validation")[0]
    row = Corrections("sft", NANO.role("preference"), ASK).load("validation")[0]
    asked = f"Better this answer. {pair['prompt'][-1]['content']} {pair['rejected']}"
    assert row == {"prompt": [{"role": "user", "content": asked}], "completion": pair["chosen"]}


def test_an_answer_that_is_to_stay_is_its_own_correction():
    known = NANO.role("sft").load("validation")[0]
    row = Unchanged("sft", NANO.role("sft"), ASK).load("validation")[0]
    assert row["completion"] == known["completion"]
    assert row["prompt"][-1]["content"].endswith(known["completion"])


def test_every_worse_response_is_revised_to_the_best_with_its_points_as_the_critique():
    judged = Judgements("sft", Ranked("ranking"), "Points? {prompt} {answer}", 2)
    rows = Revisions("sft", judged, "{critique} points: {answer}").load("train")
    assert [(row["prompt"][-1]["content"], row["completion"]) for row in rows] == [
        ("0 points: Bad.", "Great."),
        ("1 points: Fine.", "Great."),
    ]


def test_a_chain_goes_from_answer_to_better_answer_with_points_after_each():
    chains = Chains("sft", Ranked("ranking"), " Feedback: {points} of 2.", " Revision: ", 2)
    (row,) = chains.load("train")
    assert row == {
        "prompt": [{"role": "user", "content": "How was it?"}],
        "completion": "Bad. Feedback: 0 of 2. Revision: Great. Feedback: 2 of 2.",  # the third is worse than the second
    }
