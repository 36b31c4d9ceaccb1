"""Reinforcement learning of a policy on sampled answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.data.source import Rows
from polm_bench.graph import FORBID, Stage
from polm_bench.objectives.advantages import Advantage
from polm_bench.objectives.ppo import Critic, PolicyLoss
from polm_bench.rewards import Reward
from polm_bench.trainers.optim import Optim
from polm_bench.trainers.rollouts import Rollouts

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from polm_bench.trainers.experience import Networks, Settings


@dataclass(frozen=True, config=FORBID)
class TrainPolicy(Stage):
    """Policy gradient from `init` on answers that it samples itself; the reference is `init` as it was.

    Generated and trained tokens count towards the spend, those of a critic of its own too. `values` is the reward model that such a critic
    starts from; without one it starts from `init` with a fresh head. `watch` is a reward that is plotted and not learned from.
    """

    init: Stage
    reward: Reward
    data: Rows
    rollouts: Rollouts
    advantage: Advantage
    loss: PolicyLoss
    critic: Critic | None
    spend: Spend
    optim: Optim
    seed: int
    values: Stage | None = None
    watch: Reward | None = None
    parallel: ClassVar[bool] = True

    def run(self, job: Any) -> None:
        from transformers import set_seed

        from polm_bench.models.chat import encode_prompts
        from polm_bench.models.load import load_model, load_tokenizer, save_model, weight_bytes
        from polm_bench.probes.flops import METHOD
        from polm_bench.trainers.experience import Gatherer, Settings
        from polm_bench.trainers.policy import PolicyTrainer

        set_seed(self.seed)
        settings = Settings(self.rollouts, self.advantage, self.loss, self.critic, self.spend, self.optim, self.seed)
        tokenizer = load_tokenizer(job.path(self.init))
        policy = load_model(job.path(self.init), "float32", job.device)
        networks = self._networks(job, policy, settings)
        rows = self.data.load("train")
        prompts = encode_prompts(tokenizer, [row["prompt"] for row in rows])
        watch = None if self.watch is None else self.watch.scorer(job)
        gatherer = Gatherer(job, networks, tokenizer, rows, prompts, self.reward.scorer(job), settings, watch)
        trainer = PolicyTrainer(job, networks, gatherer, settings, tokenizer.pad_token_id)
        try:
            trainer.run()
        finally:
            job.ledger.note(
                steps=trainer.steps,
                asked={self.spend.unit: self.spend.amount},
                trainable_params=sum(weight.numel() for weight in networks.learning()),
                total_params=policy.num_parameters(),
                flops_method=METHOD,
            )
        save_model(policy, tokenizer, job.out)
        job.ledger.note(served_bytes=weight_bytes(job.out))

    def _networks(self, job: Any, policy: PreTrainedModel, settings: Settings) -> Networks:
        import torch

        from polm_bench.models.head import load_reward_model, with_fresh_head
        from polm_bench.models.load import load_model
        from polm_bench.probes.flops import count_flops
        from polm_bench.trainers.experience import Networks

        reference = None
        if settings.needs_reference:
            reference = load_model(job.path(self.init), "float32", job.device).requires_grad_(False)
        critic, head = None, None
        if self.critic is not None and self.critic.own:
            critic = (
                with_fresh_head(job.path(self.init), job.device)
                if self.values is None
                else load_reward_model(job.path(self.values), "float32", job.device)
            )
        elif self.critic is not None:
            head = torch.nn.Linear(policy.config.hidden_size, 1, device=job.device)
            torch.nn.init.zeros_(head.weight)  # it starts by expecting nothing
            torch.nn.init.zeros_(head.bias)
        return Networks(
            policy, reference, critic, head, count_flops(policy), None if critic is None else count_flops(critic)
        )
