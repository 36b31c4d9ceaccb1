"""Malformed input in bulk: a message of one form, status 2, no traceback, and the home as it was."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.report.synthetic import make_record, write_record

from polm_bench.cli import main
from polm_bench.data.path import path_data
from polm_bench.errors import PolmError

pytestmark = pytest.mark.slow  # all of them, so that the last one counts what the others saw

REFUSED: Counter[str] = Counter()
"""Malformed inputs so far that were refused as they should be, by kind."""

BULK = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)

SETTINGS = (
    "seed",
    "model.path",
    "model.lr_scale",
    "model.template",
    "data.path",
    "budget.amount",
    "budget.unit",
    "budget.batch",
    "budget.max_length",
    "budget.sft_share",
    "suite.batch_size",
    "suite.tasks.nano_text.limit",
    "suite.include",
    "suite.headline",
    "launch.micro_batch",
    "launch.dtype",
    "launch.checkpoint_seconds",
    "recipe.loss.beta",
    "recipe.loss._target_",
    "recipe.optim.lr",
    "recipe.optim.schedule",
    "recipe.optim",
    "recipe.start",
    "recipe.reference",
    "recipe.meta",
    "recipe.nothing",
)
VALUES = (
    "",
    "null",
    "-1",
    "0",
    "1e999",
    "nan",
    "inf",
    "high",
    "[1",
    "{",
    "[]",
    "{a:1}",
    "'",
    '"',
    "${x}",
    "${oc.env:NO}",
)
VALUES += ("true", "2.5", "[1,2]", "a=b", "\\", "é", "💥", "../..", "/etc", "os.system", "builtins.eval", "x" * 2000)
GROUPS = ("model", "data", "suite", "budget", "launch", "track", "+recipe", "recipe")


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A home with one record in it."""
    place = tmp_path / "home"
    monkeypatch.setenv("POLM_HOME", str(place))
    (place / "store").mkdir(parents=True)
    write_record(place / "records", "dpo", count=4)
    return place


def digest(home: Path) -> str:
    """Hash over the names and contents of all files."""
    found = hashlib.sha256()
    for path in sorted(home.rglob("*")):
        found.update(str(path).encode() + b"\0" + (path.read_bytes() if path.is_file() else b""))
    return found.hexdigest()


def check(kind: str, home: Path, *words: str) -> None:
    """Say the words; what is refused must be refused well, and nothing may change."""
    before = digest(home)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(list(words))
        except SystemExit as ended:  # of the argument parser
            status = ended.code
    said = err.getvalue()
    assert status in (0, 2), (words, status, said)
    assert "Traceback" not in said
    if status == 2:
        assert said.startswith("error: "), (words, said)
        assert len(said) > len("error: x\n")
        assert said.count("\nerror: ") == 0
        assert out.getvalue() == ""
        REFUSED[kind] += 1
    assert digest(home) == before


word = st.one_of(
    st.builds("{}={}".format, st.sampled_from(SETTINGS), st.sampled_from(VALUES)),
    st.builds("{}={}".format, st.sampled_from(SETTINGS), st.text(max_size=12)),
    st.builds("{}={}".format, st.sampled_from(GROUPS), st.text(max_size=12)),
    st.text(alphabet="abc=.+~-{}[]()'\"$:,@ \n\t", max_size=16),
    st.text(max_size=8),
)


@given(words=st.lists(word, min_size=1, max_size=2))
@settings(BULK, max_examples=150)
def test_overrides(home, words):
    check("overrides", home, "plan", "+recipe=dpo", *words)


GOOD = {"prompt": "Say hello.", "chosen": "Hello!", "rejected": "No."}
scalar = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6))
value = st.recursive(
    scalar, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
row = st.one_of(
    value.map(json.dumps),
    st.builds(lambda name, new: json.dumps(GOOD | {name: new}), st.sampled_from(sorted(GOOD)), value),
    st.sampled_from(sorted(GOOD)).map(lambda name: json.dumps({key: GOOD[key] for key in GOOD if key != name})),
    st.integers(0, 40).map(lambda cut: json.dumps(GOOD)[:cut]),
    st.text(max_size=12),
).map(str.encode) | st.binary(max_size=12)


@pytest.fixture
def pairs(tmp_path) -> Path:
    return tmp_path / "pairs.jsonl"


@given(bad=row, at=st.integers(0, 24))
@settings(BULK, max_examples=300)
def test_rows_are_refused_by_file_and_place(pairs, bad, at):
    lines = [json.dumps(GOOD | {"prompt": f"Say hello {number}."}).encode() for number in range(24)]
    pairs.write_bytes(b"\n".join([*lines[:at], bad, *lines[at:]]) + b"\n")
    given = {"layout": "columns", "columns": {}, "roles": {}, "train": "train", "validation": None, "files": {}}
    rest = {"validation_share": 0.1, "revision": None, "config": None, "limit": None, "max_bad": 0.0, "license": "x"}
    try:
        path_data(name="path", path=str(pairs), role="preference", **given, **rest).role("preference")
    except PolmError as mistake:
        said = str(mistake)
    else:
        return
    assert str(pairs) in said
    assert "\n" not in said
    REFUSED["rows"] += 1


@given(bad=row)
@settings(BULK, max_examples=25)
def test_rows_from_the_command_line(home, pairs, bad):
    pairs.write_bytes(json.dumps(GOOD).encode() + b"\n" + bad + b"\n")
    check("rows", home, "plan", "+recipe=dpo", "recipe.start=base", "data=path", f"data.path={pairs}")


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for name, item in inside for place in places(item, (*path, name)))]


RECORD = make_record("simpo")
PARTS = sorted(name for name in RECORD if name not in ("id",))


def changed(place: tuple[Any, ...], new: Any) -> dict[str, Any]:
    """The record with one part replaced, or removed for Ellipsis."""
    made = copy.deepcopy(RECORD)
    inner: Any = made
    for name in place[:-1]:
        inner = inner[name]
    if new is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = new
    return made


shallow = st.builds(
    changed,
    st.one_of(
        st.sampled_from([(name,) for name in PARTS]),
        st.sampled_from([("cell", name) for name in RECORD["cell"]]),
    ),
    st.just(...) | value,
).map(json.dumps)
record = st.one_of(
    shallow,
    value.map(json.dumps),
    st.integers(0, 3000).map(lambda cut: json.dumps(RECORD)[:cut]),
    st.text(max_size=20),
).map(str.encode) | st.binary(max_size=20)
COMMANDS = (("show", RECORD["id"]), ("show", RECORD["id"], "--json"), ("compare", "dpo", RECORD["id"]))


@given(bad=record, command=st.sampled_from(COMMANDS))
@settings(BULK, max_examples=250)
def test_records(home, bad, command):
    (home / "records" / f"{RECORD['id']}.json").write_bytes(bad)
    check("records", home, *command)


@given(bad=record)
@settings(BULK, max_examples=60)
def test_what_looks_at_all_records_says_which_one_is_unreadable(home, bad):
    (home / "records" / f"{RECORD['id']}.json").write_bytes(bad)
    for command in (("ls", "records"), ("status",), ("status", "--json"), ("gc", "--json")):
        check("looks", home, *command)


def test_five_hundred_malformed_inputs_were_refused():
    """Counts what the tests above saw, so it says something only after all of them."""
    if min(REFUSED[kind] for kind in ("overrides", "rows", "records")) == 0:
        pytest.skip("the tests above were not all run in this process")
    assert sum(REFUSED.values()) >= 500, REFUSED
