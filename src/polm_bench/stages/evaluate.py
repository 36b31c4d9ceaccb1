"""Evaluate a model on a suite of lm-eval tasks; every item's output and score is kept."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.decoding.base import Decoder
from polm_bench.errors import BadOverride, PartDone, Unreachable
from polm_bench.graph import FORBID, Stage, nested
from polm_bench.stages.scores import write

if TYPE_CHECKING:
    from polm_bench.decoding.plain import PlainLM

PACKAGE = "package:"


@dataclass(frozen=True, config=FORBID)
class TaskUse:
    """How a suite uses one task."""

    shots: int | None = None  # null takes the task's own number of examples
    limit: int | None = Field(default=None, gt=0)  # the first N items; null takes all


@dataclass(frozen=True, config=FORBID)
class Suite:
    """lm-eval tasks that are always run together, and how."""

    name: str
    tasks: Mapping[str, TaskUse]
    headline: Mapping[str, str]  # the one metric of a task that tables show
    batch_size: int = Field(gt=0)
    include: tuple[
        str, ...
    ] = ()  # folders of task YAMLs, "package:<dotted.package>/<folder>" or a path; none: lm-eval's own tasks
    chat: bool = True  # prompts go through the model's chat template
    seed: int = 0  # of few-shot examples and sampled answers; one for all training seeds, so that rows are paired
    content: str | None = None  # SHA-256 over the included folders; `pinned` sets it

    def folders(self) -> list[Path]:
        """The included folders. Raises BadOverride for one that isn't there."""
        return [_folder(place) for place in self.include]

    def pinned(self) -> Suite:
        """The same suite with the content of its task files in its identity."""
        if not self.include:
            return self
        digest = hashlib.sha256()
        for folder in self.folders():
            for path in sorted(p for p in folder.rglob("*") if p.suffix in {".yaml", ".py", ".jinja"}):
                digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
        return dataclasses.replace(self, content=digest.hexdigest()[:16])


def _folder(place: str) -> Path:
    if place.startswith(PACKAGE):
        package, _, inner = place.removeprefix(PACKAGE).partition("/")
        root = Path(str(import_module(package).__file__)).parent
        path = (root / inner).resolve()
        if not path.is_relative_to(root.resolve()):
            raise BadOverride(f"suite.include: {place} leads out of the package {package}. Give a folder inside it.")
    else:
        path = Path(place).expanduser()
    if not path.is_dir():
        raise BadOverride(f"suite.include: there is no folder {path}. Give a folder of lm-eval task YAMLs.")
    return path


@dataclass(frozen=True, config=FORBID)
class Evaluate(Stage):
    """Scores of one model on one suite: `scores.json`, and per item `items.parquet`."""

    model: Stage
    suite: Suite
    decoder: Decoder | None = None  # None: the model answers as it is
    parallel: ClassVar[bool] = True

    def served(self) -> list[Stage]:
        """The model, and what the decoder asks beside it: a reward model, an amateur, a corrector."""
        return [self.model, *nested(self.decoder, Stage)]

    def run(self, job: Any) -> None:
        from transformers import set_seed

        from polm_bench.decoding.plain import Plain
        from polm_bench.decoding.turns import Turns
        from polm_bench.models.load import load_model, load_tokenizer, weight_bytes
        from polm_bench.probes.flops import METHOD, count_flops
        from polm_bench.probes.serving import measure

        turns = Turns.of(job)
        folder = job.path(self.model)
        started = time.monotonic()
        tokenizer = load_tokenizer(folder)
        model = load_model(folder, job.launch.dtype, job.device)
        loaded = time.monotonic() - started
        set_seed(self.suite.seed)
        started = time.monotonic()
        lm = (self.decoder or Plain()).lm(model, tokenizer, self.suite.batch_size, self.suite.seed, job)
        lm.turns = turns
        found = _evaluate(self.suite, lm)
        seconds = time.monotonic() - started
        on_devices = sum(turns.everyone(seconds))
        if turns.rank > 0:
            raise PartDone
        template = _hash(tokenizer.chat_template) if self.suite.chat else "none"
        write(job.out, list(_scores(self.suite, found, template)), found["samples"])
        flops = count_flops(model)
        generated = sum(lm.answered)
        read_beside, flops_beside = lm.beside()
        job.ledger.add(
            tokens_generated=generated,
            tokens_scored=sum(lm.read) + sum(lm.asked) + read_beside,
            flops=sum(map(flops.score, lm.read))
            + sum(flops.generate(a, b) for a, b in zip(lm.asked, lm.answered, strict=True))
            + flops_beside,
            device_seconds=on_devices,
        )
        answers = (
            {"tokens_per_answer": round(generated / lm.questions, 3), "truncated_answers": lm.truncated}
            if lm.answered
            else {}
        )
        job.ledger.note(
            flops_method=METHOD,
            evaluation_seconds=round(seconds, 3),
            load_seconds=round(loaded, 3),
            served_bytes=sum(weight_bytes(job.path(stage)) for stage in self.served()),
            total_params=model.num_parameters(),
            **answers,
            **measure(model, lm.new_cache),
        )


def _evaluate(suite: Suite, lm: PlainLM) -> dict[str, Any]:
    """lm-eval's results, samples, versions and directions for the suite's tasks."""
    import lm_eval.evaluator
    from lm_eval.tasks import TaskManager

    folders = [str(folder) for folder in suite.folders()]
    manager = TaskManager(include_path=folders or None, include_defaults=not folders)
    loaded: dict[str, dict[str, Any]] = {}
    limits = {use.limit for use in suite.tasks.values()}
    limit = limits.pop() if len(limits) == 1 else None
    limited: dict[str, list[int]] = {}
    try:
        for entry, use in suite.tasks.items():
            found = manager.load([entry])
            for name, task in found["tasks"].items():  # several, where the entry is a group
                if use.shots is not None:
                    task.set_config(key="num_fewshot", value=use.shots)
                task.set_fewshot_seed(seed=suite.seed)
                if use.limit and not limit:  # for these lm-eval looks through all documents, for one limit it doesn't
                    limited[name] = list(range(min(use.limit, len(task.eval_docs))))
            for part, values in found.items():
                loaded.setdefault(part, {}).update(values)
    except (ConnectionError, FileNotFoundError) as error:
        raise Unreachable(
            f"the tasks of suite={suite.name} can't be loaded: {error}. They need the network once; suite=nano needs none."
        ) from error
    return lm_eval.evaluator.evaluate(
        lm=lm,
        task_dict=loaded,
        limit=limit,
        samples=limited or None,
        bootstrap_iters=1,  # closed-form standard errors; the intervals are ours
        log_samples=True,
        apply_chat_template=suite.chat,
        fewshot_as_multiturn=suite.chat,
    )


def _scores(suite: Suite, found: dict[str, Any], template: str) -> Iterator[dict[str, Any]]:
    for task, results in sorted(found["results"].items()):
        leaves = found["group_subtasks"].get(task) or [task]
        items = sum(len({sample["doc_id"] for sample in found["samples"].get(leaf, [])}) for leaf in leaves)
        for name, value in sorted(results.items()):
            metric, _, chosen = name.partition(",")
            if (
                not chosen
                or metric.endswith("_stderr")
                or not isinstance(value, int | float)
                or not math.isfinite(value)
            ):
                continue
            stderr = results.get(f"{metric}_stderr,{chosen}")
            yield {
                "task": task,
                "metric": metric,
                "value": float(value),
                "stderr": float(stderr) if isinstance(stderr, int | float) and math.isfinite(stderr) else None,
                "n": items,
                "higher_is_better": bool(found["higher_is_better"].get(task, {}).get(metric, True)),
                "filter": chosen,
                "shots": int(found["n-shot"].get(task, 0)),
                "template_hash": template,
                "task_version": str(found["versions"].get(task, "")),
                "headline": suite.headline.get(task) == metric,
            }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
