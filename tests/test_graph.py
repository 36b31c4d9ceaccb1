"""Rules of keys and graphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest
from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID, Stage, identity, ordered


@dataclass(frozen=True, config=FORBID)
class Leaf(Stage):
    number: float
    name: str = "plain"


@dataclass(frozen=True, config=FORBID)
class Join(Stage):
    parts: tuple[Stage, ...]
    named: Mapping[str, Stage] | None = None


@dataclass(frozen=True, config=FORBID)
class Numbers:
    beta: float


@dataclass(frozen=True, config=FORBID)
class WithNumbers(Stage):
    numbers: Numbers


def test_equal_fields_give_equal_keys():
    assert Leaf(2).key == Leaf(2.0).key
    assert len(Leaf(2).key) == 12


def test_another_number_name_or_class_gives_another_key():
    keys = {Leaf(1).key, Leaf(2).key, Leaf(1, "other").key, Join((Leaf(1),)).key, WithNumbers(Numbers(1)).key}
    assert len(keys) == 5


def test_a_field_at_its_default_is_not_part_of_the_key():
    assert "name" not in identity(Leaf(1))
    assert Leaf(1, "plain").key == Leaf(1).key


def test_a_pydantic_default_is_not_part_of_the_key_either():
    @dataclass(frozen=True, config=FORBID)
    class Bounded(Stage):
        lr: float = Field(gt=0)
        clip: float = Field(default=1.0, gt=0)

    assert set(identity(Bounded(lr=1))) == {"class", "version", "lr"}
    assert set(identity(Bounded(lr=1, clip=2))) == {"class", "version", "lr", "clip"}


def test_the_version_is_part_of_the_key(monkeypatch):
    before = Leaf(1).key
    monkeypatch.setattr(Leaf, "version", 2)
    assert Leaf(1).key != before


def test_the_version_of_a_value_inside_is_part_of_the_key():
    @dataclass(frozen=True, config=FORBID)
    class Objective:
        version: ClassVar[int] = 1
        beta: float = 0.1

    first = identity(Objective(beta=0.2))
    Objective.version = 2
    assert identity(Objective(beta=0.2)) != first


def test_an_input_counts_by_its_key():
    assert Join((Leaf(1),)).key != Join((Leaf(2),)).key
    assert identity(Join((Leaf(1),)))["parts"] == [{"stage": Leaf(1).key}]


def test_values_without_identity_are_refused():
    with pytest.raises(TypeError, match="no stable identity"):
        identity(Join((Leaf(1),), {"f": Leaf(1)}) and (lambda: None))


def test_not_a_number_is_refused():
    with pytest.raises(ValidationError):
        Leaf(float("nan"))
    with pytest.raises(TypeError):
        identity(float("inf"))


def test_an_unknown_field_is_refused():
    with pytest.raises(ValidationError, match="nmae"):
        Leaf(1, nmae="x")


def test_order_puts_inputs_first_and_shared_stages_once():
    a, b = Leaf(1), Leaf(2)
    join = Join((b, a), {"again": Leaf(1)})
    assert [stage.key for stage in ordered(join, b)] == [b.key, a.key, join.key]
    assert join.inputs == (b, a)
