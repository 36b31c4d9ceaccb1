"""The wheel carries all that the commands need, and nothing is read from the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return next(folder.glob("polm_bench-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    subprocess.run([*PIP, "install", "--no-deps", "--target", str(target), str(wheel)], check=True, capture_output=True)
    return target


def polm(installed: Path, elsewhere: Path, *words: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(installed), "POLM_HOME": str(elsewhere / "home")}
    command = [sys.executable, "-m", "polm_bench", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=elsewhere, env=environment).stdout


def test_an_installed_wheel_lists_recipes_from_its_own_configuration(installed, tmp_path):
    listed = json.loads(polm(installed, tmp_path, "ls", "--json"))
    assert Path(listed["conf"]) == installed / "polm_bench" / "conf"
    assert [row["name"] for row in listed["recipes"]] == sorted(
        path.stem for path in (ROOT / "conf" / "recipe").glob("[!_]*.yaml")
    )


def test_an_installed_wheel_plans_a_cell(installed, tmp_path):
    told = json.loads(polm(installed, tmp_path, "plan", "+recipe=dpo", "--json"))
    assert told["missing"] == len(told["stages"])


def test_the_wheel_carries_configuration_model_tasks_and_licence(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert f"polm_bench/conf/{path.relative_to(ROOT / 'conf')}" in names
    tracked = subprocess.run(
        ["git", "ls-files", "src/polm_bench"], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout.split()
    missing = {name.removeprefix("src/") for name in tracked} - names
    assert missing == set()
    assert any(name.endswith(".safetensors") for name in names), "the weights of the nano model"
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_stays_small(wheel):
    assert wheel.stat().st_size < 16e6  # bytes; the nano model takes up to 8 MB of it
