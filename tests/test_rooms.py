"""The arrows between the rooms of src/polm_bench: who may import whom, and what must not be imported on the way."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "polm_bench"

CORE = {
    "graph",
    "errors",
    "files",
    "paths",
    "remote",
    "budget",
}  # what a stage is, what a user can do wrong, where things lie
PURE = {"objectives", "rewards", "stats"}
MAY_IMPORT = {
    "graph": set(),
    "errors": set(),
    "files": set(),
    "paths": {"errors"},
    "remote": {"errors", "paths"},
    "budget": {"graph", "errors"},
    "objectives": {"graph"},
    "rewards": CORE | {"models", "data", "probes"},
    "stats": set(),
    "models": CORE | {"objectives"},  # some layers are what an objective says (codes of few bits)
    "data": CORE | {"models"},
    "probes": CORE,
    "trainers": CORE | PURE | {"models", "data", "probes", "decoding"},
    "decoding": CORE | PURE | {"models", "data", "probes"},
    "stages": CORE | PURE | {"models", "data", "probes", "trainers", "decoding"},
    "recipes": CORE | PURE | {"models", "data", "trainers", "decoding", "stages"},
    "run": CORE | {"probes", "stats"},
    "report": {"errors", "files", "graph", "stats", "paths", "settings"},
    "settings": {"errors", "paths"},
    "mistakes": {"errors", "settings"},
    "cell": CORE | {"models", "data", "recipes", "stages", "run"},
    "config": CORE | {"cell", "mistakes", "settings", "models", "data", "recipes", "stages", "run"},
    "drill": CORE
    | {"config", "run", "trainers", "models", "decoding"},  # the last three only to fork from a process that has them
    "tune": CORE | PURE | {"config", "probes", "models", "data", "trainers", "decoding", "stages", "recipes", "run"},
    "bench": CORE | PURE | {"probes", "models", "trainers", "stages"},
    "cli": CORE | {"config", "settings", "run", "tune", "report", "drill", "bench"},
    "__main__": {"cli"},
}
HEAVY = {
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "lm_eval",
    "mlflow",
    "optuna",
    "datasets",
    "pandas",
    "mergekit",
    "ray",
    "submitit",
    "joblib",
}
LIGHT_ROOMS = {
    "graph",
    "errors",
    "paths",
    "budget",
    "settings",
    "mistakes",
    "cell",
    "config",
    "cli",
    "run",
    "report",
    "recipes",
    "stages",
    "data",
    "tune",
}


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def modules() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def imported(tree: ast.AST, top_only: bool = False) -> set[str]:
    """Dotted names that a module imports when it runs; what only annotations need is left out."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if top_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{name.name}" for name in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_room_imports_only_the_rooms_below_it(path):
    here = room_of(path)
    rooms = {room_of(other) for other in modules()}
    names = imported(ast.parse(path.read_text()))
    reached = {name.split(".")[1] for name in names if name.startswith("polm_bench.")} & rooms
    assert here in MAY_IMPORT, f"'{here}' is a new room: say in MAY_IMPORT what it may import"
    assert reached - {here} <= MAY_IMPORT[here]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_light_rooms_import_the_model_libraries_only_inside_functions(path):
    if room_of(path) not in LIGHT_ROOMS:
        pytest.skip("this room is imported only to do the work")
    names = imported(ast.parse(path.read_text()), top_only=True)
    assert {name.split(".")[0] for name in names} & HEAVY == set()


def test_names_of_classes_with_an_identity_are_unique():
    """A stage's key holds its class's name without the module, so that code can move; two of a name would collide."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and any("config=FORBID" in ast.unparse(d) for d in node.decorator_list):
                places[node.name].append(str(path.relative_to(SOURCE)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_planning_a_cell_imports_no_model_library():
    code = (
        "import sys\nfrom polm_bench.config import plan\nplan(['+recipe=dpo'])\n"
        f"print(sorted(set({sorted(HEAVY)!r}) & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
