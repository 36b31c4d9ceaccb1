"""Cells in processes that joblib, Ray and submitit run: whoever runs them, shared stages are made once and every cell has its record."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from tests import toy_cells

from polm_bench.cli import main
from polm_bench.config import plan
from polm_bench.drill.cell import half_made, journal_of
from polm_bench.errors import BadOverride, PolmError
from polm_bench.run.cluster import Ray, Slurm
from polm_bench.run.elsewhere import Elsewhere, Ended, Errand, Joblib, device_of, visible_devices

RECIPES = ("ipo", "simpo", "cdpo", "dpo", "orpo", "kto")
ROOT = Path(__file__).resolve().parent.parent


def a_cluster_answers() -> bool:
    return shutil.which("sinfo") is not None and subprocess.run(["sinfo"], capture_output=True).returncode == 0


LAUNCHES = [
    Joblib(name="joblib", jobs=3),
    pytest.param(Ray(name="ray", cpus=0.5), marks=pytest.mark.slow),
    pytest.param(Slurm(name="slurm", cluster="local"), marks=pytest.mark.slow),
    pytest.param(
        Slurm(name="slurm", cpus=1, minutes=20),
        marks=[pytest.mark.slow, pytest.mark.skipif(not a_cluster_answers(), reason="there is no Slurm here")],
    ),
]


def errands(home: Path, *cells: tuple[str, int]) -> list[Errand]:
    return [
        Errand(number, (f"+recipe={recipe}", f"seed={seed}"), str(home), str(ROOT), True)
        for number, (recipe, seed) in enumerate(cells)
    ]


@pytest.mark.parametrize("launch", LAUNCHES, ids=lambda launch: launch.name)
def test_twelve_cells_with_shared_stages_make_each_stage_once(launch, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    home = tmp_path / "home"
    wanted = errands(home, *((recipe, seed) for seed in (0, 1) for recipe in RECIPES), ("mistaken", 0))
    ended = {one.number: one for one in launch.each(toy_cells.work, wanted)}
    assert ended.pop(12)[1:] == (None, "no such recipe", False)
    assert sorted(ended) == list(range(12))
    assert {json.loads(Path(one.record).read_text())["status"] for one in ended.values()} == {"ok"}
    begun = Counter(line.split()[0] for line in journal_of(home).read_text().splitlines())
    assert set(begun.values()) == {1}
    assert Counter(name.partition("-")[0] for name in begun) == {"TrainSFT": 2, "TrainPairs": 12, "Evaluate": 14}
    assert half_made(home) == []
    workers = {line.split()[1] for line in journal_of(home).read_text().splitlines()}
    assert len(workers) > 1
    assert str(os.getpid()) not in workers


SLURM = {
    "sbatch": "echo Submitted batch job 4711",
    "srun": "",
    "scancel": "",
    "sacct": "echo Slurm accounting storage is disabled >&2; echo 'JobID|State|NodeList'; echo '4711|FAILED|here'",
}


@pytest.mark.slow
def test_who_waits_for_slurm_is_told_for_which_job_and_hears_nothing_else(tmp_path, monkeypatch, capfd):
    for name, script in SLURM.items():  # a Slurm that takes jobs and loses them
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (ended,) = Slurm(name="slurm").each(toy_cells.work, errands(tmp_path / "home", ("dpo", 0)))
    assert str(ended.mistake).startswith("job 4711 ended as FAILED: ")
    assert capfd.readouterr().err == "Slurm's job 4711: `squeue --job 4711` says what it waits for\n"


def niceness(errand: Errand) -> Ended:
    return Ended(errand.number, str(os.nice(0)))


@pytest.mark.slow
def test_cells_of_ray_run_as_willingly_as_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert [one.record for one in Ray(name="ray", cpus=0.5).each(niceness, errands(tmp_path, ("x", 0)))] == [
        str(os.nice(0))
    ]


def test_every_worker_of_a_machine_has_its_own_device_as_long_as_there_are_enough():
    assert [device_of(place, ["0", "1", "3"]) for place in range(4)] == [
        {"CUDA_VISIBLE_DEVICES": name} for name in ("0", "1", "3", "0")
    ]
    assert [device_of(place, list("01234"), 2)["CUDA_VISIBLE_DEVICES"] for place in range(3)] == ["0,1", "2,3", "0,1"]
    assert device_of(1, []) == {}


def test_devices_that_the_user_hid_stay_hidden(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert visible_devices() == ["2", "5"]
    assert Joblib(name="joblib").at_once() == 2
    assert Joblib(name="joblib", isolate=True, num_processes=2).at_once() == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_devices() == []
    assert Joblib(name="joblib").at_once() == os.cpu_count()


def see_device(errand: Errand) -> tuple[int, str]:
    return os.getpid(), os.environ["CUDA_VISIBLE_DEVICES"]


def test_workers_see_different_devices(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    seen = set(Joblib(name="joblib").each(see_device, errands(tmp_path, *(("x", seed) for seed in range(8)))))
    assert {device for _, device in seen} <= {"4", "7"}
    assert len(seen) == len({pid for pid, _ in seen}) == len({device for _, device in seen})


def die(errand: Errand) -> None:
    os.kill(os.getpid(), 9)


def test_a_worker_that_is_killed_ends_the_sweep_with_what_to_do(tmp_path):
    with pytest.raises(PolmError, match="a worker process died, perhaps killed for its memory"):
        list(Joblib(name="joblib", jobs=2).each(die, errands(tmp_path, ("x", 0), ("x", 1))))


@pytest.mark.parametrize(("name", "kind"), [("joblib", Joblib), ("ray", Ray), ("slurm", Slurm)])
def test_one_word_chooses_who_runs_the_cells_and_no_stage_knows(name, kind):
    here, there = plan(["+recipe=dpo"]), plan(["+recipe=dpo", f"launch={name}", "launch.threads=2"])
    assert type(there.launch) is kind
    assert there.launch.inside().threads == 2
    assert not isinstance(there.launch.inside(), Elsewhere)
    assert there.record_id == here.record_id


def mistake(capsys, *words: str) -> str:
    assert main(["run", *words, "+recipe=dpo"]) == 2
    return capsys.readouterr().err


def test_what_cannot_be_launched_is_said_before_anything_runs(home, capsys, monkeypatch):
    assert "launch=joblib, launch=ray or launch=slurm" in mistake(capsys, "hydra/launcher=joblib")
    assert "one sweep has one launch" in mistake(capsys, "-m", "launch=inline,joblib")
    assert "launch.jobs: Input should be greater than or equal to 1" in mistake(
        capsys, "launch=joblib", "launch.jobs=0"
    )
    monkeypatch.setenv("PATH", os.defpath if shutil.which("sbatch") is None else str(Path(sys.executable).parent))
    assert "launch=slurm: Could not detect" in mistake(capsys, "launch=slurm")
    assert not (home / "records").exists()


@pytest.mark.parametrize(
    "more", [["spine"], ["spine", "--at", "tokens=9"], ["peft_metamath", "--against", "published"]]
)
def test_a_table_runs_its_cells_here_or_elsewhere_and_not_both(more, home, capsys):
    assert main(["table", *more, "--run", "--jobs", "2", "--launch", "slurm"]) == 2
    assert "--jobs runs cells on this machine and --launch elsewhere" in capsys.readouterr().err
    assert not home.exists()


def wait_long(errand: Errand) -> None:
    (Path(errand.home) / f"{errand.number}").write_text(f"{os.getpid()}")
    time.sleep(600)


@pytest.mark.slow
def test_jobs_end_with_the_command_that_waits_for_them(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    script = (
        "from pathlib import Path; from tests.test_launchers import *;"
        "signal.signal(signal.SIGINT, signal.default_int_handler);"  # a shell's background jobs ignore it
        f"list(Slurm(name='slurm', cluster='local').each(wait_long, errands(Path({str(tmp_path)!r}), ('x', 0))))"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.DEVNULL) as command:
        while not (pid := (tmp_path / "0").read_text() if (tmp_path / "0").exists() else ""):
            assert command.poll() is None
            time.sleep(0.1)
        job = psutil.Process(int(pid))
        command.send_signal(signal.SIGINT)
        gone, _ = psutil.wait_procs([job], timeout=180)
    assert gone == [job]


def test_a_cell_asks_a_cluster_for_a_device_where_there_is_one_and_never_for_more_than_this_machine_has():
    assert Ray(name="ray").resources({"CPU": 2.0}) == {"num_cpus": 1, "num_gpus": 0}
    assert Ray(name="ray").resources({"CPU": 2.0, "GPU": 4.0}) == {"num_cpus": 1, "num_gpus": 1}
    assert Ray(name="ray", device="cpu").resources({"CPU": 2.0, "GPU": 4.0})["num_gpus"] == 0
    with pytest.raises(BadOverride, match=r"launch\.gpus=64: Ray sees 0 here, so no cell would start"):
        Ray(name="ray", gpus=64).resources({"CPU": 2.0})
    assert Ray(name="ray", gpus=64, address="auto").resources({"CPU": 2.0})["num_gpus"] == 64  # it may grow


@pytest.mark.slow
def test_a_cell_that_was_submitted_is_printed_like_any_other(toy_model, home, capfd):
    place = ["model=path", f"model.path={toy_model}", "budget=smoke", "suite=smoke", "track=none"]
    words = ["+recipe=sft", *place, "launch=slurm", "launch.cluster=local"]
    assert main(["run", *words, "--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["status"] == "ok"
    assert "cell 1 of 1: sft seed 0 has ended" in err
