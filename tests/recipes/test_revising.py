"""What recipes plan that learn to better a model's own answers."""

from __future__ import annotations

import pytest
from tests.recipes.test_feedback import spent

from polm_bench.config import plan
from polm_bench.data.derived import DerivedRows
from polm_bench.graph import ordered
from polm_bench.stages.generate import Generate
from polm_bench.stages.improve import Hypotheses, ImprovingPairs
from polm_bench.stages.sft import TrainSFT


def test_a_corrector_learns_from_the_starts_answers_and_then_from_its_own_too():
    planned = plan(["+recipe=self_correction", "recipe.rounds=3"])
    made = ordered(planned.graph.decoder.corrector)
    answers = [stage for stage in made if isinstance(stage, Generate)]
    pairs = [stage for stage in made if isinstance(stage, ImprovingPairs)]
    start, *correctors = [stage for stage in made if isinstance(stage, TrainSFT)]
    assert planned.graph.model is planned.graph.start is start
    assert [stage.model for stage in answers] == [start, *correctors[:-1]]
    assert [stage.answers for stage in pairs] == [tuple(answers[: n + 1]) for n in range(3)]
    assert [stage.init for stage in correctors] == [start, *correctors[:-1]]
    assert not isinstance(answers[0].data, DerivedRows)
    assert [stage.data.stage for stage in answers[1:]] == [stage for stage in made if isinstance(stage, Hypotheses)]
    assert spent(made) == pytest.approx(planned.budget.amount)


def test_chains_are_learned_beside_plain_answers_and_read_as_they_were_written():
    planned = plan(["+recipe=selfee"])
    plain, chains = planned.graph.model.data.parts
    assert planned.graph.model.init is planned.graph.start
    assert plain.whole == planned.graph.start.data
    assert (chains.feedback, chains.revision) == (planned.graph.decoder.feedback, planned.graph.decoder.revision)
    assert spent(ordered(planned.graph.model)) == pytest.approx(planned.budget.amount)


def test_mining_pays_for_its_reward_model():
    planned = plan(["+recipe=instruction_mining"])
    assert spent(ordered(planned.graph.model)) == pytest.approx(planned.budget.amount)
