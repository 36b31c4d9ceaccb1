"""What a stage's identity says of its work before it runs: tokens, operations, bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from polm_bench.probes.shape import Shape, shape_of
from polm_bench.run.launch import Launch

Json = Mapping[str, Any]
Kind = Literal["training", "generation", "scoring"]

PASSES = {"training": 6, "generation": 2, "scoring": 2}
"""Operations per parameter and token: 2 forwards, 4 backwards (Kaplan et al. 2020, arXiv:2001.08361, Section 2.1: C = 6 N D)."""

COPIES = 4
"""Numbers kept per trained parameter: the weight, its gradient and Adam's two moments. In 32 bits that is 16 bytes, as in mixed precision
(Rajbhandari et al. 2020, arXiv:1910.02054, Section 3.1)."""

LAYER_BYTES = 34
"""Activations of one layer per token and hidden unit, in bytes at 16 bits (Korthikanti et al. 2022, arXiv:2205.05198, Equation 1: s b h (34 + 5 a s / h));
the second term is the matrix of attention, which fused attention does not keep."""

LOGIT_COPIES = 3
"""Of the logits in float32, during training: themselves, their log-softmax, their gradient."""

ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd")
"""What the drivers of NVIDIA and AMD put there."""


class Sketch(NamedTuple):
    """What is known of a stage before it runs."""

    kind: str
    identity: Json
    traits: frozenset[tuple[str, str]]  # its fields and those of its inputs, without seeds and keys
    base: str | None  # key of the fetched model that it comes from
    shape: Shape | None  # of that model


class Memory(NamedTuple):
    """Bytes that a stage's fields account for, beside what the process itself takes."""

    all: float
    least: float  # what is left of it with the smallest micro-batch


def sketches(identities: Mapping[str, Json], folders: Mapping[str, Path]) -> dict[str, Sketch]:
    """A sketch of each stage by its key; `folders` hold the files of fetched models, by the keys of the stages that fetch them."""
    shapes = {key: shape_of(folder) for key, folder in folders.items() if key == _base(key, identities)}
    found = {}
    for key, identity in identities.items():
        base = _base(key, identities)
        shape = shapes.get(base) if base else None
        traits = frozenset(_leaves(identity, identities, 1, ""))
        found[key] = Sketch(str(identity.get("class")), identity, traits, base, shape)
    return found


def likeness(one: Sketch, other: Sketch) -> float:
    """Share of what either says that both say (Jaccard), 0 to 1."""
    return len(one.traits & other.traits) / len(one.traits | other.traits)


def kind_of_work(identity: Json) -> Kind | None:
    """What a stage with a spend does with it, by its fields; None for one that has none."""
    if not isinstance(identity.get("spend"), Mapping):
        return None
    if "optim" in identity or "lr" in identity:
        return "training"
    return "generation" if "how" in identity else "scoring"


def operations(sketch: Sketch) -> float | None:
    """Floating-point operations that its spend pays for; rows of a budget in steps count as full."""
    work = kind_of_work(sketch.identity)
    if work is None:
        return None
    spend = sketch.identity["spend"]
    if spend["unit"] == "flops":
        return float(spend["amount"])
    if spend["unit"] == "seconds" or sketch.shape is None:
        return None
    tokens = spend["amount"] * (spend["batch"] * spend["max_length"] if spend["unit"] == "steps" else 1)
    return float(PASSES[work] * sketch.shape.parameters * tokens)


def items(identity: Json, sizes: Mapping[str, int]) -> float | None:
    """Items of an evaluation's suite, where the sizes of its tasks are known or it limits them."""
    tasks = identity["suite"]["tasks"]
    known = [[one for one in (use.get("limit"), sizes.get(task)) if one is not None] for task, use in tasks.items()]
    return float(sum(map(min, known))) if all(known) else None


def ratio(
    sketch: Sketch, other: Sketch, ledger: Json, asked: Mapping[str, int], sizes: Mapping[str, int]
) -> float | None:
    """How many times the work of another stage of its kind, which took `ledger`, this one is; None where that can't be said.

    `asked` are the items of the other's tasks, where it is an evaluation.
    """
    if sketch.base != other.base and not (sketch.shape and other.shape):
        return None
    times = models(sketch, other)
    if "suite" in sketch.identity:
        if sketch.identity["suite"].get("tasks") == other.identity["suite"].get("tasks"):
            return times
        mine, theirs = items(sketch.identity, sizes), sum(asked.values())
        return times * mine / theirs if mine and theirs else None
    spend = sketch.identity.get("spend")
    if not isinstance(spend, Mapping):
        return times
    amount, used = _amount(spend), _used(spend["unit"], other.identity, ledger)
    if not used:
        return None
    return amount / used * (1.0 if spend["unit"] in ("flops", "seconds") else times)


def models(sketch: Sketch, other: Sketch) -> float:
    """How many times the parameters of another stage's model its model has; 1 where either is not known."""
    return sketch.shape.parameters / other.shape.parameters if sketch.shape and other.shape else 1.0


def memory(sketch: Sketch, launch: Launch) -> Memory | None:
    """Weights, and in training also gradients, the optimizer's states, activations and logits of one micro-batch of full rows."""
    if sketch.shape is None:
        return None
    width = 2 if launch.dtype == "bfloat16" else 4
    weights = float(sketch.shape.parameters * width)
    if kind_of_work(sketch.identity) != "training":
        return Memory(weights, weights)
    states = weights * (1 if "adapter" in sketch.identity else COPIES)
    spend = sketch.identity["spend"]
    tokens = min(spend["batch"], launch.micro_batch) * spend["max_length"]
    layers = tokens * sketch.shape.hidden * sketch.shape.layers * LAYER_BYTES * width / 2
    return Memory(states + layers + tokens * sketch.shape.vocabulary * 4 * LOGIT_COPIES, states)


def disk(sketch: Sketch, launch: Launch) -> float | None:
    """Bytes of the weights that it writes; None for a stage of which that is not known."""
    if sketch.shape is None:
        return None
    if sketch.kind == "FetchModel":
        return float(sketch.shape.bytes)
    if kind_of_work(sketch.identity) != "training" or "adapter" in sketch.identity:
        return None
    return float(sketch.shape.parameters * (2 if launch.dtype == "bfloat16" else 4))


def on_host(launch: Launch) -> bool:
    """Whether stages run in the memory of the host, as far as that is known without the drivers' libraries."""
    return launch.device == "cpu" or (launch.device == "auto" and not any(Path(one).exists() for one in ACCELERATORS))


def _amount(spend: Json) -> float:
    return float(spend["amount"] * (spend["batch"] if spend["unit"] == "steps" else 1))


def _used(unit: str, identity: Json, ledger: Json) -> float:
    """What a stage used, in rows for a budget in steps; what it was to use, where the ledger does not say."""
    spend = identity["spend"]
    if unit == spend["unit"]:
        return _amount(spend)
    tokens = ledger.get("tokens_trained", 0) + ledger.get("tokens_generated", 0) or ledger.get("tokens_scored", 0)
    used = {
        "steps": ledger.get("steps", 0) * spend["batch"],
        "tokens": tokens,
        "flops": ledger.get("flops", 0),
        "seconds": ledger.get("device_seconds", 0),
    }
    return float(used[unit])


def _base(key: str, identities: Mapping[str, Json]) -> str | None:
    """The fetched model that a stage comes from, by the first of its inputs that has one."""
    identity = identities.get(key)
    if identity is None:
        return None
    if identity.get("class") == "FetchModel":
        return key
    return next((base for name in _inputs(identity) if (base := _base(name, identities))), None)


def _inputs(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if set(value) == {"stage"}:
            yield value["stage"]
        else:
            for item in value.values():
                yield from _inputs(item)
    elif isinstance(value, list):
        for item in value:
            yield from _inputs(item)


def _leaves(value: Any, identities: Mapping[str, Json], depth: int, path: str) -> Iterator[tuple[str, str]]:
    """Every figure and word of an identity with its place; an input stands as its own, `depth` inputs deep."""
    if isinstance(value, Mapping):
        if set(value) == {"stage"}:
            if depth and value["stage"] in identities:
                yield from _leaves(identities[value["stage"]], identities, depth - 1, path)
            return
        for name, item in value.items():
            if name != "seed":
                yield from _leaves(item, identities, depth, f"{path}/{name}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _leaves(item, identities, depth, f"{path}/{number}")
    else:
        yield path, str(value)
