"""Which of a model's answers are worth learning from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from pydantic import NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass

from polm_bench.data.derived import ROWS, read_rows, write_rows
from polm_bench.data.roles import Row, check_row
from polm_bench.errors import BadData, EmptyHarvest
from polm_bench.graph import FORBID, Stage
from polm_bench.rewards import Reward
from polm_bench.stages.generate import ANSWERS, Generate


class Scored(NamedTuple):
    """One answer that ended by itself, and its reward."""

    text: str
    score: float
    given: bool = False  # it came with the row; no model of the graph wrote it


@dataclass(frozen=True, config=FORBID)
class Keep:
    """A rule that makes rows of a role out of the scored answers to one prompt."""

    role: ClassVar[str] = "sft"

    def rows(self, row: Row, answers: Sequence[Scored]) -> list[Row]:
        """What is kept; none where no answer is good enough."""
        raise TypeError(f"{type(self).__name__} does not say what it keeps")

    def given(self, row: Row) -> list[str]:
        """Answers of the row itself that are scored beside the model's."""
        return []


@dataclass(frozen=True, config=FORBID)
class KeepBest(Keep):
    """The answer of the highest reward, if that is above a floor (Dong et al. 2023, RAFT, arXiv:2304.06767, Algorithm 1)."""

    above: float | None = None

    def rows(self, row: Row, answers: Sequence[Scored]) -> list[Row]:
        best = max(answers, key=lambda answer: answer.score, default=None)
        if best is None or (self.above is not None and best.score <= self.above):
            return []
        return [{"prompt": row["prompt"], "completion": best.text}]


@dataclass(frozen=True, config=FORBID)
class KeepPassing(Keep):
    """Different answers whose reward is above a floor, at most so many to a prompt."""

    above: float
    most: PositiveInt

    def rows(self, row: Row, answers: Sequence[Scored]) -> list[Row]:
        passing = dict.fromkeys(answer.text for answer in answers if answer.score > self.above)
        return [{"prompt": row["prompt"], "completion": text} for text in list(passing)[: self.most]]


@dataclass(frozen=True, config=FORBID)
class KeepPair(Keep):
    """The best and the worst answer, where their rewards differ by more than a margin."""

    margin: NonNegativeFloat
    role: ClassVar[str] = "preference"

    def rows(self, row: Row, answers: Sequence[Scored]) -> list[Row]:
        ranked = sorted(answers, key=lambda answer: -answer.score)
        if not ranked or ranked[0].score - ranked[-1].score <= self.margin:
            return []
        margin = ranked[0].score - ranked[-1].score
        return [{"prompt": row["prompt"], "chosen": ranked[0].text, "rejected": ranked[-1].text, "margin": margin}]


@dataclass(frozen=True, config=FORBID)
class KeepLargeMargins(Keep):
    """All pairs of a good answer and one that is worse by a margin, among the model's answers and the row's `chosen` one.

    Rosset et al. 2024 (DNO-Prct, arXiv:2404.03715), Section 5.1, training pair construction: a teacher's answer must be better by more than
    one of the model's own, as its scores are seldom low.
    """

    least: float  # reward of a good answer
    margin: NonNegativeFloat  # by which the row's answer must be better
    own_margin: NonNegativeFloat  # by which an answer of the model must be
    role: ClassVar[str] = "preference"

    def given(self, row: Row) -> list[str]:
        return [row["chosen"]]

    def rows(self, row: Row, answers: Sequence[Scored]) -> list[Row]:
        different = {one.text.strip(): one for one in answers}.values()
        return [
            {"prompt": row["prompt"], "chosen": good.text, "rejected": bad.text, "margin": good.score - bad.score}
            for good in different
            if good.score >= self.least
            for bad in different
            if bad is not good and good.score - bad.score >= (self.margin if good.given else self.own_margin)
        ]


@dataclass(frozen=True, config=FORBID)
class KeepAgainstData(Keep):
    """The row's own completion against an answer that the model wrote instead (Chen et al. 2024, SPIN, arXiv:2401.01335, Algorithm 1)."""

    role: ClassVar[str] = "preference"

    def rows(self, row: Row, answers: Sequence[Scored]) -> list[Row]:
        return [
            {"prompt": row["prompt"], "chosen": row["completion"], "rejected": answer.text}
            for answer in answers
            if answer.text.strip() != row["completion"].strip()
        ]


@dataclass(frozen=True, config=FORBID)
class Select(Stage):
    """Rows made of what one or more models answered: `rows.jsonl`, in the normal form of the role that `keep` names.

    Answers cut off at the length limit are left out, as they would teach to stop there. Without a reward every answer scores 0.

    Raises EmptyHarvest when nothing is kept.
    """

    answers: tuple[Generate, ...]
    reward: Reward | None
    keep: Keep

    def run(self, job: Any) -> None:
        lines = answered(job, self.answers)
        scored = score(job, self.reward, lines)
        kept = [
            row
            for line, answers, given in zip(lines, scored, self._given(job, lines), strict=True)
            for row in self.keep.rows(asked(line["row"]), [*answers, *given])
        ]
        rows = [row for row in kept if sound(self.keep.role, row)]
        told = harvest(lines, scored, rows)
        job.ledger.note(harvest=told)
        if not rows:
            raise EmptyHarvest(
                f"none of {told['answers']} answers to {told['prompts']} prompts was kept; {told['ended']} ended by themselves"
            )
        write_rows(job.out / ROWS, rows)

    def _given(self, job: Any, lines: Sequence[Row]) -> list[list[Scored]]:
        """The rows' own answers that the rule wants scored."""
        texts = [self.keep.given(line["row"]) for line in lines]
        if not any(texts):
            return [[] for _ in lines]
        beside = [
            {"row": line["row"], "answers": [{"text": text, "ended": True} for text in found]}
            for line, found in zip(lines, texts, strict=True)
        ]
        return [[one._replace(given=True) for one in found] for found in score(job, self.reward, beside)]


@dataclass(frozen=True, config=FORBID)
class Hint(Stage):
    """Prompts that were not answered right, with the right answer as a hint: rows of their role, with the prompt without hint as `asked`.

    Zelikman et al. 2022 (STaR, arXiv:2203.14465), Section 3.2, rationalisation. With nothing left to answer, all prompts are hinted.
    """

    answers: Generate
    reward: Reward
    hint: str  # added to the last message; {answer} is the row's

    def run(self, job: Any) -> None:
        lines = answered(job, (self.answers,))
        best = [max((a.score for a in answers), default=0.0) for answers in score(job, self.reward, lines)]
        failed = [line["row"] for line, value in zip(lines, best, strict=True) if value <= 0]
        rows = failed or [line["row"] for line in lines]
        job.ledger.note(harvest={"prompts": len(lines), "failed": len(failed)})
        write_rows(job.out / ROWS, (self._hinted(row) for row in rows))

    def _hinted(self, row: Row) -> Row:
        *before, last = row["prompt"]
        content = f"{last['content']} {self.hint.format(answer=row['answer'])}"
        return {**row, "prompt": [*before, {**last, "content": content}], "asked": row["prompt"]}


def answered(job: Any, stages: Sequence[Generate]) -> list[Row]:
    """Lines of several generating stages: a row, its number and its answers."""
    return [line for stage in stages for line in read_rows(job.path(stage) / ANSWERS)]


def score(job: Any, reward: Reward | None, lines: Sequence[Row]) -> list[list[Scored]]:
    """The answers to each prompt that ended by themselves and say something, with their rewards; scored in one call."""
    ended = [[a["text"] for a in line["answers"] if a["ended"] and a["text"].strip()] for line in lines]
    flat = [(line["row"], text) for line, texts in zip(lines, ended, strict=True) for text in texts]
    scores = [0.0] * len(flat)
    if reward is not None and flat:
        scores = reward.scorer(job)([asked(row) for row, _ in flat], [text for _, text in flat])
    values = iter(scores)
    return [[Scored(text, float(next(values))) for text in texts] for texts in ended]


def asked(row: Row) -> Row:
    """The row as a student will be asked: without the hint that its prompt may carry."""
    return {**row, "prompt": row["asked"]} if "asked" in row else row


def sound(role: str, row: Row) -> bool:
    """Whether a made row keeps the rules of its role; a model may repeat the question or say nothing."""
    try:
        check_row(role, row, "a generated row")
    except BadData:
        return False
    return True


def harvest(lines: Sequence[Row], scored: Sequence[Sequence[Scored]], rows: Sequence[Row]) -> dict[str, float]:
    """How much was asked, answered and kept, and the mean reward of all answers that ended."""
    values = [answer.score for answers in scored for answer in answers]
    return {
        "prompts": len(lines),
        "answers": sum(len(line["answers"]) for line in lines),
        "ended": len(values),
        "kept": len(rows),
        "mean_reward": sum(values) / len(values) if values else 0.0,
    }
