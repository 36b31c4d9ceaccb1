"""What recipes of gathered feedback plan, and what a probe adds to a plan."""

from __future__ import annotations

import pytest

from polm_bench.config import plan
from polm_bench.errors import BadBudget, BadOverride
from polm_bench.graph import ordered
from polm_bench.stages.drift import Drift
from polm_bench.stages.policy import TrainPolicy
from polm_bench.stages.reward import LabelPairs, TrainReward
from polm_bench.stages.reward_more import JoinRewards
from polm_bench.stages.score_judge import ScoreJudge
from polm_bench.stages.sft import TrainSFT


def spent(stages) -> float:
    return sum(stage.spend.amount for stage in stages if hasattr(stage, "spend"))


def test_online_rlhf_learns_from_all_pairs_so_far_and_starts_each_policy_anew():
    planned = plan(["+recipe=rlhf_online"])
    made = ordered(planned.graph.model)
    policies = [stage for stage in made if isinstance(stage, TrainPolicy)]
    rewards = [stage for stage in made if isinstance(stage, TrainReward)]
    (labels,) = [stage for stage in made if isinstance(stage, LabelPairs)]
    assert labels.model is policies[0]
    assert [reward.more for reward in rewards] == [(), (labels,)]
    assert {policy.init.key for policy in policies} == {planned.graph.start.key}
    assert [policy.values for policy in policies] == rewards
    assert spent(made) == pytest.approx(planned.budget.amount)


def test_constitutional_ai_spends_its_budget_with_room_for_critiques_and_revisions():
    planned = plan(["+recipe=constitutional_ai"])
    made = ordered(planned.graph.model)
    start, revised = [stage for stage in made if isinstance(stage, TrainSFT)]
    assert planned.graph.start is start
    assert planned.graph.model.init is revised
    written = planned.budget.amount * 0.5 * 0.15
    assert spent(made) == pytest.approx(planned.budget.amount - written * 2 / 3)  # an answer, a critique, a revision
    with pytest.raises(BadBudget, match="sft_share"):
        plan(["+recipe=constitutional_ai", "budget.sft_share=0"])
    with pytest.raises(BadOverride, match="shares"):
        plan(["+recipe=constitutional_ai", "recipe.reward_share=0.9"])


def test_an_aligner_leaves_its_start_alone():
    planned = plan(["+recipe=aligner"])
    assert planned.graph.model is planned.graph.start
    corrector = planned.graph.decoder.corrector
    assert spent(ordered(planned.graph.start)) + spent(ordered(corrector)) == pytest.approx(planned.budget.amount)


def test_members_of_an_ensemble_differ_in_their_seeds_and_share_the_spend():
    planned = plan(["+recipe=reward_ensemble"])
    joined = planned.graph.model
    assert isinstance(joined, JoinRewards)
    assert len({member.seed for member in joined.members}) == len(joined.members) == 3
    assert spent(joined.members) == pytest.approx(planned.budget.amount / 2)


def test_a_policy_against_an_ensemble_splits_the_reward_models_share():
    planned = plan(["+recipe=ppo_ensemble"])
    policy = planned.graph.model
    members = policy.reward.joined.members
    assert len({member.seed for member in members}) == len(members) == 3
    assert policy.values is members[0]
    assert spent(ordered(policy)) == pytest.approx(planned.budget.amount)
    with pytest.raises(BadOverride, match="preference"):
        plan(["+recipe=ppo_ensemble", "recipe.reward={_target_: polm_bench.rewards.Lexicon}"])


def test_the_searched_model_is_dpos():
    assert plan(["+recipe=dpo_search"]).graph.model == plan(["+recipe=dpo"]).graph.model


def test_a_probe_is_another_record_of_the_same_model():
    plain, probed = plan(["+recipe=dpo"]), plan(["+recipe=dpo", "+probe=drift"])
    assert probed.graph.model == plain.graph.model
    assert probed.record_id != plain.record_id
    drift = probed.graph.probes["self"]
    assert isinstance(drift, Drift)
    assert drift.start == plain.graph.start
    assert {name for name, origin in probed.origins.items() if origin == "command line"} >= {"probe.prompts"}


def test_divergence_is_not_measured_where_there_is_none():
    with pytest.raises(BadOverride, match="writes no text"):
        plan(["+recipe=reward_model", "+probe=drift"])
    with pytest.raises(BadOverride, match="decoder"):
        plan(["+recipe=dpo_search", "+probe=drift"])


def test_a_judge_is_probed_beside_any_recipe():
    planned = plan(["+recipe=base", "+probe=judge_endpoint"])
    assert isinstance(planned.graph.probes["self"], ScoreJudge)
    with pytest.raises(BadOverride, match=r"probe\.prompts"):
        plan(["+recipe=dpo", "+probe=drift", "probe.prompts=0"])


def test_a_watched_reward_is_another_key_and_none_is_not():
    plain, watched = (
        plan(["+recipe=rlhf_ppo"]),
        plan(["+recipe=rlhf_ppo", "+recipe.watch._target_=polm_bench.rewards.Lexicon"]),
    )
    assert plain.graph.model.watch is None
    assert watched.graph.model.key != plain.graph.model.key
