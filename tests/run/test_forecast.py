"""What may be expected of a stage stands on what ran here and on what can be counted, and a plan that can't fit is refused with what would."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import NANO

from polm_bench.config import plan
from polm_bench.probes.shape import Shape, shape_of
from polm_bench.run import work
from polm_bench.run.forecast import Done, Forecast, History, least, shortage
from polm_bench.run.hindsight import Past, hindsight
from polm_bench.run.launch import Launch
from polm_bench.run.store import Store

GB = 1e9
REVIEWS = Path(__file__).parents[2] / "results" / "reviews" / "records"
SHAPE = Shape(parameters=1000, bytes=2000, layers=2, hidden=10, vocabulary=50)
CPU = Launch(name="inline", device="cpu")


def spend(amount, unit="tokens", batch=4, max_length=8):
    return {"class": "Spend", "unit": unit, "amount": amount, "batch": batch, "max_length": max_length}


def sketch(kind="TrainSFT", shape=SHAPE, base="b", **fields):
    identity = {"class": kind, **fields}
    known = work.sketches({"k": identity | {"init": {"stage": base}}, base: {"class": "FetchModel"}}, {})["k"]
    return known._replace(shape=shape)


def sft(amount, loss="likelihood", **more):
    return sketch(loss=loss, optim={"lr": 1.0}, spend=spend(amount), **more)


def ledger(wall, busy, tokens=0, flops=0.0, peak=0, **more):
    return {
        "wall_seconds": wall,
        "device_seconds": busy,
        "tokens_trained": tokens,
        "flops": flops,
        "peak_host_bytes": peak,
        **more,
    }


def history(*stages: Done) -> History:
    found = History()
    for stage in stages:
        found.add(stage)
    return found


class TestCounting:
    def test_a_shape_is_read_from_the_headers_of_the_weights(self):
        assert shape_of(NANO) == Shape(3_541_248, 2 * 3_541_248, layers=4, hidden=256, vocabulary=2048)

    def test_a_folder_without_weights_has_none(self, tmp_path):
        assert shape_of(tmp_path) is None

    @pytest.mark.parametrize(
        ("one", "operations"),
        [
            (sft(100), 6 * 1000 * 100),
            (sketch("Generate", how={"max_new_tokens": 3}, spend=spend(100)), 2 * 1000 * 100),
            (sketch("ReferenceLogps", spend=spend(100)), 2 * 1000 * 100),
            (sketch(optim={"lr": 1.0}, spend=spend(2, "steps")), 6 * 1000 * 2 * 4 * 8),
            (sketch(optim={"lr": 1.0}, spend=spend(7e9, "flops")), 7e9),
            (sketch("Select"), None),
            (sft(100, shape=None), None),
        ],
    )
    def test_a_token_costs_two_operations_per_parameter_read_and_six_trained(self, one, operations):
        assert work.operations(one) == operations

    def test_training_keeps_weights_gradients_and_two_moments_and_an_adapter_only_the_weights(self):
        tokens = 4 * 8
        activations = tokens * 10 * 2 * 34 * 2 + tokens * 50 * 4 * 3
        assert work.memory(sft(1), CPU) == (16_000 + activations, 16_000)
        assert work.memory(sft(1, adapter={"class": "Adapter"}), CPU) == (4_000 + activations, 4_000)
        assert work.memory(sketch("Select"), CPU) == (4_000, 4_000)

    def test_what_is_counted_for_a_model_of_135M_is_near_what_training_it_took(self):
        record = json.loads(next(REVIEWS.glob("sft-*.json")).read_text())
        took = next(stage["ledger"] for stage in record["stages"] if stage["kind"] == "TrainSFT")
        shape = Shape(took["total_params"], 0, layers=30, hidden=576, vocabulary=49152)  # SmolLM2-135M's config.json
        one = sketch(shape=shape, optim={}, spend=spend(40_000, batch=8, max_length=256))
        assert work.operations(one) == pytest.approx(took["flops"], rel=0.1)
        assert work.memory(one, CPU).all == pytest.approx(took["peak_host_bytes"], rel=0.2)

    def test_the_base_is_found_through_the_inputs(self):
        chain = {"c": {"class": "Fold", "base": [{"stage": "s"}]}, "s": {"class": "TrainSFT", "init": {"stage": "f"}}}
        assert work.sketches(chain | {"f": {"class": "FetchModel"}}, {"f": NANO})["c"].shape == shape_of(NANO)

    def test_items_are_limited_by_the_suite_and_unknown_for_a_task_never_asked(self):
        suite = {"suite": {"tasks": {"a": {"limit": 4}, "b": {}}}}
        assert work.items(suite, {"a": 500, "b": 300}) == 304
        assert work.items(suite, {"a": 500}) is None


class TestExpecting:
    def test_the_work_grows_and_what_is_beside_it_does_not(self):
        told = history(Done(sft(1000), ledger(12, 10, peak=500))).expect(sft(3000), CPU)
        assert (told.seconds, told.basis["seconds"]) == (2 + 3 * 10, "like stages")

    def test_a_model_twice_as_large_takes_twice_as_long_and_its_states_more(self):
        large = sft(1000, shape=SHAPE._replace(parameters=2000), base="c")
        told = history(Done(sft(1000), ledger(12, 10, peak=50_000), disk_bytes=10)).expect(large, CPU)
        assert (told.seconds, told.memory_bytes, told.disk_bytes) == (22, 50_000 + 16_000, 20)

    def test_of_a_model_whose_size_is_not_known_nothing_is_said(self):
        told = history(Done(sft(1000), ledger(12, 10))).expect(sft(1000, shape=None, base="c"), CPU)
        assert told[:5] == (False, None, None, None, None)

    def test_the_stages_most_like_it_are_read_and_seeds_make_no_difference(self):
        past = history(
            Done(sft(1000, "ipo", seed=0), ledger(10, 10)),
            Done(sft(1000, "dpo", seed=1), ledger(20, 20)),
            Done(sft(1000, "dpo", seed=2), ledger(30, 30)),
        )
        assert past.expect(sft(1000, "dpo", seed=3), CPU).seconds == 25

    def test_a_kind_that_never_ran_takes_its_operations_at_the_speed_of_like_work(self):
        past = history(
            Done(sft(1000), ledger(12, 10, flops=6e6, peak=1_000_000)),
            Done(sketch("Generate", how={}, spend=spend(10)), ledger(9, 9, flops=9.0, peak=1_000_000)),
        )
        told = past.expect(sketch("TrainPairs", optim={"lr": 1.0}, spend=spend(4000)), CPU)
        assert (told.seconds, told.basis["seconds"]) == (2 + 6 * 1000 * 4000 / 6e5, "counted")
        assert told.memory_bytes > 900_000

    def test_where_nothing_ran_no_time_is_made_up_and_memory_is_a_lower_bound(self):
        told = History().expect(sft(1000), CPU)
        assert told.seconds is None
        assert told.basis == {"memory_bytes": "at least", "disk_bytes": "counted", "host_bytes": "counted"}
        assert told.disk_bytes == 4000

    def test_a_budget_in_seconds_is_the_time(self):
        past = history(Done(sft(1000), ledger(12, 10, flops=6e6)))
        assert past.expect(sketch("TrainPairs", optim={}, spend=spend(60, "seconds")), CPU).seconds == 62

    def test_an_evaluation_is_read_by_its_items(self):
        small = {"name": "smoke", "tasks": {"a": {"limit": 4}}}
        past = history(Done(sketch("Evaluate", suite=small), ledger(3, 2), asked={"a": 4}))
        more = {"name": "more", "tasks": {"a": {"limit": 4}, "b": {"limit": 8}}}
        assert past.expect(sketch("Evaluate", suite=more), CPU).seconds == 1 + 2 * 3
        assert past.expect(sketch("Evaluate", suite={"name": "all", "tasks": {"b": {}}}), CPU).seconds is None

    def test_steps_and_tokens_are_compared_by_what_was_used(self):
        past = history(Done(sketch(optim={}, spend=spend(5, "steps")), ledger(10, 10, tokens=50, steps=5)))
        assert past.expect(sketch(optim={}, spend=spend(200)), CPU).seconds == 40


def test_hindsight_reads_only_cells_that_had_ended():
    def cell(name: str, started: str, finished: str, wall: float) -> Past:
        told = {"key": name, "kind": "TrainSFT", "shared": False, "ledger": ledger(wall, wall)}
        return Past(name, started, finished, CPU, ((told, sft(1000)),), {})

    looks = hindsight([cell("c", "05", "09", 9), cell("b", "03", "08", 7), cell("a", "01", "03", 5)])
    assert [(look.cell, look.expected.seconds) for look in looks] == [("a", None), ("b", 5), ("c", 5)]


def test_a_stage_that_several_cells_have_counts_once_for_the_one_that_made_it():
    def cell(name: str, shared: bool) -> Past:
        told = {"key": "k", "kind": "TrainSFT", "shared": shared, "ledger": ledger(1, 1)}
        return Past(name, "01", "02", CPU, ((told, sft(1000)),), {})

    assert [look.cell for look in hindsight([cell("a", True), cell("b", False)])] == ["b"]
    assert [look.cell for look in hindsight([cell("a", True), cell("b", True)])] == ["a"]


class TestFitting:
    def test_what_fits_and_what_is_not_known_is_not_refused(self):
        expected = {"a": Forecast(False, 1.0, 3 * GB, 3 * GB, 3 * GB), "b": Forecast(False, None, None, None)}
        assert shortage(expected, disk_free=4 * GB, memory=4 * GB) is None
        assert shortage({}, 0, 0) is None

    def test_what_is_done_needs_no_more_room(self):
        assert shortage({"a": Forecast(True, 1.0, 9 * GB, 9 * GB, 9 * GB)}, disk_free=0, memory=0) is None

    @pytest.mark.parametrize(
        ("one", "words"),
        [
            (
                Forecast(False, 1.0, 1 * GB, 3 * GB, 1 * GB),
                ["6.0 GB on disk", "4.0 GB are free", "polm-bench gc", "POLM_HOME"],
            ),
            (Forecast(False, 1.0, 1 * GB, 0, 9 * GB), ["9.0 GB of memory", "has 8.0 GB", "launch.micro_batch"]),
            (
                Forecast(False, 1.0, 1 * GB, 0, 9 * GB, basis={"host_bytes": "counted"}),
                ["9.0 GB of memory", "counted by the size of the model", "launch.dtype=bfloat16", "+recipe=lora"],
            ),
        ],
    )
    def test_what_does_not_fit_is_told_with_what_would(self, one, words):
        told = shortage({"a": one, "b": one}, disk_free=4 * GB, memory=8 * GB)
        assert [word for word in words if word not in told] == []

    def test_a_run_is_refused_by_the_weights_gradients_and_states_alone(self, tmp_path):
        found = plan(["+recipe=sft"])
        expected = least(found.stages(), Store(tmp_path), CPU, found.folders())
        states = 16 * 3_541_248
        assert shortage(expected, math.inf, states) is None
        assert "0.1 GB of memory" in shortage(expected, math.inf, states - 1)

    def test_on_a_device_the_memory_of_the_machine_is_not_counted(self):
        assert History().expect(sft(1), Launch(name="inline", device="cuda")).host_bytes is None


def test_a_plan_loads_no_model_library_and_names_what_each_figure_stands_on(tmp_path):
    code = (
        "import sys\nfrom polm_bench.cli.app import main\nstatus = main(['plan', '+recipe=sft', '--json'])\n"
        "sys.exit(status or bool({'torch', 'transformers', 'mlflow', 'pandas'} & set(sys.modules)))"
    )
    environment = os.environ | {"POLM_HOME": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    told = {stage["kind"]: stage for stage in json.loads(ran.stdout)["stages"]}["TrainSFT"]
    assert told["basis"] == {"memory_bytes": "at least", "disk_bytes": "counted", "host_bytes": "counted"}
    assert (told["seconds"], told["disk_bytes"]) == (None, 4 * 3_541_248)
