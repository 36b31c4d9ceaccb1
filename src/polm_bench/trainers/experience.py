"""Sampled answers with everything a policy learns from them; one path for every online method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate.utils import reduce
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polm_bench.budget import Spend
from polm_bench.decoding.sample import AT_ONCE, Answer, Sampling, sample
from polm_bench.decoding.turns import Turns
from polm_bench.models.head import token_values
from polm_bench.objectives.advantages import GAE, Advantage, Scored
from polm_bench.objectives.ppo import Critic, PolicyLoss, kl
from polm_bench.probes.flops import FlopCount
from polm_bench.rewards import Scorer
from polm_bench.trainers.logps import mixed
from polm_bench.trainers.optim import Optim
from polm_bench.trainers.rollouts import Rollouts
from polm_bench.trainers.tokens import AnswerBatch, Asked, TokenView, collate, token_view


@dataclass(frozen=True)
class Settings:
    """The numbers of one policy-gradient training."""

    rollouts: Rollouts
    advantage: Advantage
    loss: PolicyLoss
    critic: Critic | None
    spend: Spend
    optim: Optim
    seed: int

    @property
    def longest(self) -> int:
        """Tokens an answer may have: half of the budget's length, which `models.chat.join` keeps for a completion everywhere."""
        return self.spend.max_length // 2

    @property
    def needs_reference(self) -> bool:
        return self.rollouts.penalty > 0 or self.loss.kl > 0

    @property
    def needs_old(self) -> bool:
        """Whether the log-probs at sampling are not simply those of the first and only step."""
        return self.rollouts.penalty > 0 or self.critic is not None or self.rollouts.steps * self.rollouts.epochs > 1


@dataclass(frozen=True)
class Networks:
    """Up to four models: those that learn, and the frozen reference. The reward's is behind its scorer."""

    policy: PreTrainedModel
    reference: PreTrainedModel | None
    critic: PreTrainedModel | None  # a network of its own
    head: nn.Linear | None  # or a head on the policy's states
    flops: FlopCount
    critic_flops: FlopCount | None

    def learning(self) -> list[nn.Parameter]:
        modules = [module for module in (self.policy, self.critic, self.head) if module is not None]
        return [weight for module in modules for weight in module.parameters() if weight.requires_grad]

    def values(self, batch: AnswerBatch, view: TokenView) -> Tensor:
        """The critic's expectation before each token of the answers, [N, T]."""
        if self.head is not None:
            return batch.spread(self.head(view.hidden)[:, 0])
        assert self.critic is not None  # noqa: S101  # for the type checker: the caller has looked
        return batch.spread(token_values(self.critic, batch.ids, batch.attention)[batch.predicts].float())


class Experience(NamedTuple):
    """One round's N answers. Tensors are [N, T] and without gradient."""

    asked: list[Asked]
    mask: Tensor
    old: Tensor | None
    reference: Tensor | None
    values: Tensor | None
    returns: Tensor | None
    advantages: Tensor
    told: dict[str, float]
    """Means over the answers, for the curve: reward, the watched reward (`gold`), length, KL per answer in nats (k1), share that ended."""


class Gatherer:
    """Samples, scores and weighs answers; counts every token it makes or reads.

    Several processes do it in turns, and all of them know all answers, scores and amounts. An answer is drawn from its prompt's own random
    numbers, so it does not depend on who writes it.
    """

    def __init__(
        self,
        job: Any,
        networks: Networks,
        tokenizer: PreTrainedTokenizerBase,
        rows: Sequence[Mapping[str, Any]],
        prompts: Sequence[list[int]],
        score: Scorer,
        settings: Settings,
        watch: Scorer | None = None,
    ) -> None:
        self.job, self.networks, self.tokenizer, self.settings = job, networks, tokenizer, settings
        self.turns = Turns.of(job)
        self.rows, self.score, self.watch = rows, score, watch
        room = settings.spend.max_length - settings.longest
        self.prompts = [ids[-room:] for ids in prompts]

    def prompt(self, place: int) -> int:
        """Row number at a place of the endless order, which depends on the seed alone: permutations joined end to end."""
        epoch, index = divmod(place, len(self.rows))
        return int(np.random.default_rng([self.settings.seed, epoch]).permutation(len(self.rows))[index])

    def round(self, number: int, place: int, batches: int) -> tuple[Experience | None, int]:
        """Answers for `batches` optimiser batches, and the place of the next prompt; None where no group was of use."""
        rollouts = self.settings.rollouts
        wanted = batches * self.settings.spend.batch // rollouts.group
        rows: list[int] = []
        answers: list[list[Answer]] = []
        scores: list[list[float]] = []
        for draw in range(rollouts.draws):
            chosen = [self.prompt(place + step) for step in range(wanted - len(rows))]
            place += len(chosen)
            written = self.write(chosen, number, draw)
            judged = self.judge(chosen, written)
            for row, group, given in zip(chosen, written, judged, strict=True):
                if rollouts.draws == 1 or max(given) > min(given):
                    rows.append(row)
                    answers.append(group)
                    scores.append(given)
            if len(rows) == wanted:
                break
        if not rows:
            return None, place
        return self.weigh(rows, answers, scores), place

    def write(self, rows: Sequence[int], number: int, draw: int, greedy: bool = False) -> list[list[Answer]]:
        """A group of answers to each row's prompt, or the likeliest one."""
        settings = self.settings
        seed = int(np.random.SeedSequence([settings.seed, number, draw]).generate_state(1)[0])
        prompts = [self.prompts[row] for row in rows]
        count = 1 if greedy else settings.rollouts.group
        answers = sample(
            self.networks.policy,
            self.tokenizer,
            prompts,
            Sampling(max_new_tokens=settings.longest, temperature=0.0 if greedy else settings.rollouts.temperature),
            count=count,
            batch_size=count * self.turns.size(len(prompts), max(1, AT_ONCE // count)),
            seed=seed,
            turns=self.turns,
        )
        lengths = [(len(prompt), len(one.ids)) for prompt, group in zip(prompts, answers, strict=True) for one in group]
        self.job.ledger.add(
            tokens_generated=sum(new for _, new in lengths),
            flops=sum(self.networks.flops.generate(old, new) for old, new in lengths),
        )
        return answers

    def judge(self, rows: Sequence[int], answers: Sequence[Sequence[Answer]]) -> list[list[float]]:
        """The reward of each answer, before any shaping."""
        scores = iter(self.scores(self.score, rows, answers))
        return [[next(scores) for _ in group] for group in answers]

    def scores(self, scorer: Scorer, rows: Sequence[int], answers: Sequence[Sequence[Answer]]) -> list[float]:
        """What a scorer gives each answer, one after the other, and in the ledger what that takes."""
        asked = [self.rows[row] for row, group in zip(rows, answers, strict=True) for _ in group]
        texts = [one.text for group in answers for one in group]
        size = self.turns.size(len(texts), len(texts))
        before = dict(self.job.ledger.amounts)

        def some(start: int) -> list[float]:
            return scorer(asked[start : start + size], texts[start : start + size])

        found = self.turns.over(range(0, len(texts), size), some)
        if self.turns.processes > 1:
            now = self.job.ledger.amounts
            parts = self.turns.everyone({name: now[name] - before.get(name, 0) for name in now})
            names = {name for part in parts for name in part}
            now.update({name: before.get(name, 0) + sum(part.get(name, 0) for part in parts) for name in names})
        return [score for part in found for score in part]

    def shaped(self, answer: Answer, score: float) -> float:
        """The reward after what an answer without an end, or a long one, is charged."""
        rollouts, longest = self.settings.rollouts, self.settings.longest
        if rollouts.unended is not None and not answer.ended:
            score = rollouts.unended
        if rollouts.overlong:
            buffer = rollouts.overlong * longest
            score -= min(1.0, max(0.0, len(answer.ids) - (longest - buffer)) / buffer)
        return score

    def weigh(self, rows: list[int], answers: list[list[Answer]], scores: list[list[float]]) -> Experience:
        """Log-probs, values and advantages of the answers."""
        settings = self.settings
        flat = [one for group in answers for one in group]
        asked = [(self.prompts[row], one.ids) for row, group in zip(rows, answers, strict=True) for one in group]
        plain = [score for group in scores for score in group]
        given = [self.shaped(one, score) for one, score in zip(flat, plain, strict=True)]
        mask = collate(asked, self.tokenizer.pad_token_id, "cpu").mask.to(self.job.device)
        old, reference, values = self.view(asked, mask)
        penalty = torch.zeros(mask.shape, device=mask.device)
        if settings.rollouts.penalty and old is not None and reference is not None:
            penalty = settings.rollouts.penalty * kl(old, reference, "k1") * mask
        greedy = None
        if settings.advantage.needs_greedy:
            likeliest = self.write(rows, 0, 0, greedy=True)
            judged = self.judge(rows, likeliest)
            greedy = torch.tensor(
                [self.shaped(group[0], score[0]) for group, score in zip(likeliest, judged, strict=True)],
                device=mask.device,
            )
        scored = Scored(torch.tensor(given, device=mask.device), penalty, mask, settings.rollouts.group, values, greedy)
        advantage = settings.advantage
        returns = values + advantage.raw(scored) if isinstance(advantage, GAE) and values is not None else None
        told = {
            "reward": float(np.mean(plain)),
            "answer_tokens": float(mask.sum(1).float().mean()),
            "ended": float(np.mean([one.ended for one in flat])),
        }
        if self.watch is not None:
            told["gold"] = float(np.mean(self.scores(self.watch, rows, answers)))
        if old is not None and reference is not None:
            told["kl"] = float((kl(old, reference, "k1") * mask).sum(1).mean())
        return Experience(asked, mask, old, reference, values, returns, advantage(scored), told)

    @torch.no_grad()
    def view(self, asked: list[Asked], mask: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Log-probs at sampling, the reference's, and the critic's values; None for what is not needed."""
        settings, networks = self.settings, self.networks
        names = ["old"] * settings.needs_old + ["values"] * (settings.needs_old and settings.critic is not None)
        names += ["reference"] * (networks.reference is not None)
        found = {name: torch.zeros(mask.shape, device=mask.device) for name in names}
        size = self.turns.size(len(asked), self.job.launch.micro_batch)
        for start in self.turns.mine(range(0, len(asked), size)):
            batch = collate(asked[start : start + size], self.tokenizer.pad_token_id, self.job.device)
            views: dict[str, Tensor] = {}
            with mixed(self.job.device):
                if settings.needs_old:
                    seen = token_view(networks.policy, batch, settings.rollouts.temperature)
                    views["old"] = seen.logps
                    if settings.critic is not None:
                        views["values"] = networks.values(batch, seen)
                if networks.reference is not None:
                    views["reference"] = token_view(networks.reference, batch, settings.rollouts.temperature).logps
            for name, part in views.items():
                found[name][start : start + size, : part.shape[1]] = part
        if self.turns.processes > 1:
            found = {name: reduce(whole, "sum") for name, whole in found.items()}
        passes = len(names) - (networks.head is not None)
        lengths = [len(prompt) + len(answer) for prompt, answer in asked]
        self.job.ledger.add(tokens_scored=passes * sum(lengths), flops=passes * sum(map(networks.flops.score, lengths)))
        return found.get("old"), found.get("reference"), found.get("values")
