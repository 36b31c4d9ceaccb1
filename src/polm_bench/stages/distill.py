"""Students: models trained to answer as a teacher would."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.data.source import Rows
from polm_bench.decoding.sampling import Sampling
from polm_bench.errors import BadModel
from polm_bench.graph import FORBID, Stage
from polm_bench.objectives.distill import DistillObjective
from polm_bench.stages.generate import demonstrations
from polm_bench.stages.sft import TrainSFT
from polm_bench.trainers.optim import Optim

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from polm_bench.data.roles import Row
    from polm_bench.trainers.distill import Meter, Prices
    from polm_bench.trainers.schedule import Schedule

SHORTEST = 1  # tokens of an answer of one's own: at least the end token


@dataclass(frozen=True, config=FORBID)
class TrainTeacher(TrainSFT):
    """A teacher: the same fine-tuning on a larger spend than any student has. It is given to the methods, so its cost is shown as shared."""

    given: ClassVar[bool] = True


@dataclass(frozen=True, config=FORBID)
class TrainStudent(Stage):
    """A student from `init`, on the rows' completions or on its own answers, with its teacher's next-token distributions as targets.

    `own` of the steps are on answers that the student draws then and there. With `shown` the teacher alone sees the first `shots` rows of it as
    a dialogue before every prompt. Both need the same tokens. What the teacher reads is in the ledger as scored, not in the budget.
    """

    init: Stage
    teacher: Stage
    objective: DistillObjective
    data: Rows
    spend: Spend
    optim: Optim
    seed: int
    own: float = Field(default=0.0, ge=0, le=1)
    how: Sampling = Field(default=Sampling(max_new_tokens=1))
    shown: Rows | None = None
    shots: int = Field(default=0, ge=0)

    def run(self, job: Any) -> None:
        from transformers import set_seed

        from polm_bench.models.load import load_model, load_tokenizer, save_model, weight_bytes
        from polm_bench.probes.flops import METHOD, count_flops
        from polm_bench.trainers.distill import Meter, Own, Prices, StudentTrainer
        from polm_bench.trainers.fit import Cost, fit

        tokenizer = load_tokenizer(job.path(self.init))
        same_tokens(tokenizer, load_tokenizer(job.path(self.teacher)))
        set_seed(self.seed)
        model = load_model(job.path(self.init), "float32", job.device)
        teacher = load_model(job.path(self.teacher), "float32", job.device)
        shown = self.shown.read(job, "train")[: self.shots] if self.shown else []
        rows = student_rows(tokenizer, self.data.read(job, "train"), shown, self.spend.max_length)
        meter = Meter(self.spend, prices := Prices(count_flops(model), count_flops(teacher)))
        plan = student_schedule(rows, self.own, prices, self.spend, self.seed, job.launch.micro_batch)
        make = partial(
            StudentTrainer,
            teacher=teacher,
            tokenizer=tokenizer,
            objective=self.objective,
            own=Own(self.own, self.how),
            meter=meter,
            optim=self.optim,
        )
        free = [0] * len(rows)  # the meter knows what rows cost: with answers of one's own, nobody does beforehand
        try:
            fit(job, make, model, rows, Cost(free, free), plan, self.spend, self.optim, self.seed)
        finally:
            account(job, meter)
        job.ledger.note(flops_method=METHOD)
        save_model(model, tokenizer, job.out)
        job.ledger.note(served_bytes=weight_bytes(job.out))


def student_rows(
    tokenizer: PreTrainedTokenizerBase, rows: list[Row], shown: list[Row], max_length: int
) -> list[dict[str, Any]]:
    """Token rows for student and teacher, cut alike; the teacher's have the dialogue `shown` before the prompt and may be longer for it."""
    from polm_bench.models.chat import encode_completions, encode_prompts, join

    before = demonstrations(shown)
    prompts = encode_prompts(tokenizer, [row["prompt"] for row in rows])
    given = encode_prompts(tokenizer, [[*before, *row["prompt"]] for row in rows]) if before else prompts
    answers = encode_completions(tokenizer, [row["completion"] for row in rows])
    made = []
    for prompt, longer, answer in zip(prompts, given, answers, strict=True):
        ids, completion = join(prompt, answer, max_length)
        teacher = [*longer, *ids[len(ids) - completion :]] if before else ids
        made.append({"input_ids": ids, "teacher_ids": teacher, "completion": completion})
    return made


def student_schedule(
    rows: list[dict[str, Any]], own: float, prices: Prices, spend: Spend, seed: int, micro_batch: int
) -> Schedule:
    """Order of the rows, the same as SFT's on the same rows; with answers of one's own long enough for the shortest there can be."""
    from polm_bench.trainers.schedule import schedule

    lengths = [len(row["input_ids"]) for row in rows]
    if own:  # an answer is generated and then trained on
        least = [min(len(row["input_ids"]), len(row["input_ids"]) - row["completion"] + 2 * SHORTEST) for row in rows]
    else:
        least = lengths
    cost: list[float] = [float(length) for length in least]
    if spend.unit == "flops":
        cost = [
            prices.student.train(length)
            + prices.teacher.score(length + len(row["teacher_ids"]) - len(row["input_ids"]))
            for length, row in zip(least, rows, strict=True)
        ]
    return schedule(lengths, cost, spend, seed, micro_batch)


def account(job: Any, meter: Meter) -> None:
    """What the meter has counted, into the ledger and into the curve."""
    job.ledger.add(**meter.amounts)
    for point in job.curve_points:
        if 0 < point["step"] <= len(meter.history):
            point["tokens"] = int(meter.history[int(point["step"]) - 1])


def same_tokens(student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase) -> None:
    """Raises BadModel where the two models don't share their tokens: distributions over different ones can't be compared."""
    if student.get_vocab() != teacher.get_vocab():
        raise BadModel("student and teacher have different tokenizers; distil from a model of the same family")
