"""Policy-gradient training: rounds of sampling and learning until the budget is spent.

trl's GRPO and RLOO trainers fix the number of steps beforehand, keep a round's unused answers out of their checkpoints, have no critic and no
dynamic sampling. Here a budget is spent in tokens that only sampling tells, a killed run goes on bit for bit, and all methods share one
path; trl's losses are the oracle in the tests.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from accelerate.utils import reduce
from torch import Tensor

from polm_bench.errors import BadBudget, Diverged, PartDone
from polm_bench.objectives.ppo import TokenLogps, kl
from polm_bench.trainers.experience import Experience, Gatherer, Networks, Settings
from polm_bench.trainers.logps import mixed
from polm_bench.trainers.tokens import collate, token_view

CHECKPOINT = "policy.pt"
POINTS = 50  # points of a training curve at most


class PolicyTrainer:
    """Trains the networks in place; checkpoints between rounds, by the clock, into the job's scratch folder.

    Several processes know the same answers, take their micro-batches in turn, and add up their gradients before each step.
    Networks stay in evaluation mode: dropout would make the log-probs at learning others than those at sampling.
    """

    def __init__(self, job: Any, networks: Networks, gatherer: Gatherer, settings: Settings, pad_id: int) -> None:
        batch, group = settings.spend.batch, settings.rollouts.group
        if batch % group:
            raise BadBudget(
                f"a batch of {batch} answers is not made of groups of {group}; set rollouts.group to a divisor"
            )
        self.job, self.networks, self.gatherer, self.settings, self.pad_id = job, networks, gatherer, settings, pad_id
        self.turns = gatherer.turns
        optim = settings.optim
        self.optimiser = torch.optim.AdamW(
            networks.learning(), lr=optim.lr, betas=(0.9, optim.beta2), weight_decay=optim.weight_decay
        )
        self.started = self.saved = time.monotonic()
        self.before = 0.0  # seconds of killed attempts
        self.steps = self.rounds = self.place = 0
        self.plotted: list[dict[str, float]] = []
        self.next_point = 0.0

    def run(self) -> None:
        """Raises Diverged when a loss or a weight is no longer finite, and PartDone in all processes but the first."""
        self.resume()
        try:
            while (done := self.done()) < 1:
                batches = self.batches()
                paid = self.steps + batches * self.settings.rollouts.epochs
                experience, self.place = self.gatherer.round(self.rounds, self.place, batches)
                self.rounds += 1
                if experience is not None:
                    self.learn(experience)
                    self.plot(experience.told)
                if self.settings.spend.unit == "steps":
                    self.steps = (
                        paid  # also where no useful group was found for some: what was sampled in vain is spent
                    )
                self.job.progress(min(1.0, self.done()), 1, "of the budget")
                if time.monotonic() - self.saved >= self.job.launch.checkpoint_seconds and done < 1:
                    self.save()
        finally:
            self.job.ledger.add(device_seconds=self.elapsed() * self.turns.processes)
        if not all(torch.isfinite(weight).all() for weight in self.networks.learning()):
            raise Diverged("the trained weights are not finite")
        if self.turns.rank > 0:
            raise PartDone

    def elapsed(self) -> float:
        return self.before + time.monotonic() - self.started

    def spent(self) -> float:
        """Of the budget, in its unit. A critic of its own is a trained model too, so its tokens count."""
        amounts = self.job.ledger.amounts
        match self.settings.spend.unit:
            case "steps":
                return self.steps
            case "tokens":
                return float(amounts.get("tokens_trained", 0) + amounts.get("tokens_generated", 0))
            case "flops":
                return float(amounts.get("flops", 0))
            case "seconds":
                return self.turns.agreed(self.elapsed())

    def done(self) -> float:
        return self.spent() / self.settings.spend.amount

    def batches(self) -> int:
        """Optimiser batches to sample at once: a round's, or the fewer that what is left pays for, at the price of those so far."""
        rollouts, spent = self.settings.rollouts, self.spent()
        if self.settings.spend.unit == "steps":
            price = float(rollouts.epochs)
        elif self.steps:
            price = spent / self.steps * rollouts.epochs
        else:
            return rollouts.steps
        return max(1, min(rollouts.steps, math.ceil((self.settings.spend.amount - spent) / price)))

    def learn(self, experience: Experience) -> None:
        """All epochs over a round's answers in random batches, until the budget is spent."""
        size = self.settings.spend.batch
        told: list[dict[str, float]] = []
        for epoch in range(self.settings.rollouts.epochs):
            order = np.random.default_rng([self.settings.seed, self.rounds, epoch]).permutation(len(experience.asked))
            for start in range(0, len(order), size):
                if self.done() < 1:
                    told.append(self.step(experience, order[start : start + size].tolist()))
        for name in told[0] if told else ():
            experience.told[name] = float(np.mean([step[name] for step in told]))

    def step(self, experience: Experience, rows: list[int]) -> dict[str, float]:
        """One optimiser step on these answers; its gradient does not depend on the split into micro-batches."""
        settings = self.settings
        before = self.done()
        rows = sorted(rows, key=lambda row: -len(experience.asked[row][0]) - len(experience.asked[row][1]))
        mask = experience.mask[rows]
        weights = settings.loss.weights(mask, settings.longest)
        even = mask / mask.sum()
        told = {"loss": 0.0} | ({"value_loss": 0.0} if settings.critic else {})
        if experience.old is None and experience.reference is not None:
            told["kl"] = 0.0  # nats per answer (k1), of the weights that sampled, as this is the first step on them
        size = self.turns.size(len(rows), self.job.launch.micro_batch)
        for start in self.turns.mine(range(0, len(rows), size)):
            part = rows[start : start + size]
            costs = self.costs(experience, part)
            width = costs["loss"].shape[1]
            losses = {
                "loss": (costs["loss"] * weights[start : start + size, :width]).sum(),
                "value_loss": (costs["value_loss"] * even[start : start + size, :width]).sum(),
                "kl": costs["kl"].sum() / len(rows),
            }
            (losses["loss"] + (settings.critic.weight if settings.critic else 0.0) * losses["value_loss"]).backward()
            for name in told:
                told[name] += losses[name].item()
        told = self.joined(told)
        self.pay([sum(map(len, experience.asked[row])) for row in rows])
        self.steps += 1
        rate = settings.optim.rate((before + self.done()) / 2, settings.optim.lr)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        told["grad_norm"] = float(torch.nn.utils.clip_grad_norm_(self.networks.learning(), settings.optim.clip))
        if not all(map(math.isfinite, told.values())):
            raise Diverged(f"loss or gradient is not finite at step {self.steps}: {told}")
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return told | {"learning_rate": rate}

    def joined(self, told: dict[str, float]) -> dict[str, float]:
        """The sums over all processes of what each found in its micro-batches, and of their gradients."""
        if self.turns.processes == 1:
            return told
        weights = self.networks.learning()
        parts = self.turns.everyone((told, [weight.grad is not None for weight in weights]))
        for weight, any_of in zip(weights, map(any, zip(*(moved for _, moved in parts), strict=True)), strict=True):
            if any_of:
                weight.grad = reduce(torch.zeros_like(weight) if weight.grad is None else weight.grad, "sum")
        return {name: sum(own[name] for own, _ in parts) for name in told}

    def costs(self, experience: Experience, rows: list[int]) -> dict[str, Tensor]:
        """Cost per token of the policy and of the critic, and the distance (k1) from the reference; zeros without those. All [N, T]."""
        settings, networks = self.settings, self.networks
        batch = collate([experience.asked[row] for row in rows], self.pad_id, self.job.device)
        width = batch.mask.shape[1]

        def of(whole: Tensor | None) -> Tensor | None:
            return None if whole is None else whole[rows, :width]

        with mixed(self.job.device):
            view = token_view(networks.policy, batch, settings.rollouts.temperature, entropy=settings.loss.entropy > 0)
            values = networks.values(batch, view) if settings.critic else None
        old = of(experience.old)
        logps = TokenLogps(
            view.logps,
            view.logps.detach() if old is None else old,
            of(experience.reference),
            view.entropy,
            batch.mask,
        )
        cost = settings.loss.costs(logps, experience.advantages[rows, :width])
        value_cost = torch.zeros_like(cost)
        if settings.critic and values is not None:
            before, returns = of(experience.values), of(experience.returns)
            if before is None or returns is None:
                raise ValueError(f"{type(settings.advantage).__name__} gives a critic nothing to learn; take GAE")
            value_cost = settings.critic.costs(values, before, returns)
        apart = torch.zeros_like(cost)
        if logps.reference is not None:
            apart = kl(view.logps.detach(), logps.reference, "k1") * batch.mask
        return {"loss": cost, "value_loss": value_cost, "kl": apart}

    def pay(self, lengths: list[int]) -> None:
        """Enter one step on sequences of these lengths; a critic of its own trains on them too."""
        networks = self.networks
        counts = [networks.flops] + ([networks.critic_flops] if networks.critic_flops is not None else [])
        self.job.ledger.add(
            tokens_trained=len(counts) * sum(lengths), flops=sum(count.train(n) for count in counts for n in lengths)
        )

    def plot(self, told: dict[str, float]) -> None:
        """Keep a round's means; a point of the curve is the mean over the rounds since the last one."""
        self.plotted.append(told)
        if self.done() < self.next_point:
            return
        self.next_point = self.done() + 1 / POINTS
        names = {name: None for point in self.plotted for name in point}
        means = {name: float(np.mean([point[name] for point in self.plotted if name in point])) for name in names}
        self.job.curve(self.steps, tokens=int(self.job.ledger.amounts.get("tokens_trained", 0)), **means)
        self.plotted = []

    def save(self) -> None:
        """Replace the checkpoint, one for all processes; it is whole at any moment. Sampling has no state: its seed is the round's number."""
        if self.turns.rank > 0:
            return
        state = {
            "networks": [weight.detach() for weight in self.networks.learning()],
            "optimiser": self.optimiser.state_dict(),
            "counts": [self.steps, self.rounds, self.place],
            "amounts": dict(self.job.ledger.amounts),
            "seconds": self.elapsed(),
            "curve": list(self.job.curve_points),
            "plotted": [self.plotted, self.next_point],
        }
        beside = self.job.scratch / f"{CHECKPOINT}.new"
        torch.save(state, beside)
        beside.replace(self.job.scratch / CHECKPOINT)
        self.saved = time.monotonic()

    def resume(self) -> None:
        """Go on from the checkpoint, where there is one."""
        path = self.job.scratch / CHECKPOINT
        if not path.exists():
            return
        state = torch.load(path, map_location=self.job.device, weights_only=True)
        with torch.no_grad():
            for weight, saved in zip(self.networks.learning(), state["networks"], strict=True):
                weight.copy_(saved)
        self.optimiser.load_state_dict(state["optimiser"])
        self.steps, self.rounds, self.place = state["counts"]
        self.job.ledger.amounts.update(state["amounts"])
        self.before = state["seconds"]
        self.job.curve_points[:] = state["curve"]
        self.plotted, self.next_point = state["plotted"]
