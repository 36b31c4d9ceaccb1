"""Nothing that comes with a model or with data is ever run."""

from __future__ import annotations

import ast
import json
import pickle
import shutil
from pathlib import Path

import pytest
import yaml

from polm_bench.cli import main

SOURCE = Path(__file__).parents[2] / "src" / "polm_bench"
CONF = Path(__file__).parents[2] / "conf"
ROW = {"prompt": "Say hello.", "completion": "Hello!"}


class Trap:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.fixture
def sprung(tmp_path) -> Path:
    """A file that exists only once some code from outside has run."""
    return tmp_path / "sprung"


@pytest.fixture
def model(toy_model, tmp_path, sprung) -> Path:
    """A model's folder with Python code beside it that would spring the trap."""
    folder = shutil.copytree(toy_model, tmp_path / "model")
    code = f"from pathlib import Path\nPath({str(sprung)!r}).touch()\n"
    for name in ("modeling_llama.py", "modeling_trap.py", "tokenization_trap.py", "__init__.py"):
        (folder / name).write_text(code)
    return folder


def refused(capsys, *words: str) -> str:
    assert main(["run", *words, "suite=smoke", "budget=smoke", "track=none"]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def test_a_trap_springs_when_it_is_unpickled(sprung):
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists()


def test_malicious_pickle_weights_are_refused_with_the_reason_and_never_loaded(model, home, sprung, capsys):
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(sprung)))
    said = refused(capsys, "+recipe=base", f"model.path={model}")
    assert "pytorch_model.bin" in said
    assert "loading a pickle can run any code" in said
    assert not sprung.exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_model_that_asks_for_its_own_code_is_refused_with_the_reason(model, home, sprung, capsys, name):
    told = json.loads((model / name).read_text())
    (model / name).write_text(json.dumps(told | {"auto_map": {"AutoModelForCausalLM": "modeling_trap.Trap"}}))
    said = refused(capsys, "+recipe=base", f"model.path={model}")
    assert f"{name} has auto_map" in said
    assert "never run" in said
    assert not sprung.exists()


def test_pickles_and_code_beside_good_weights_are_left_where_they_are(model, home, sprung):
    from polm_bench.models.folder import finish, model_files, take

    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(sprung)))
    (model / "optimizer.pt").write_bytes(pickle.dumps(Trap(sprung)))
    out = home / "taken"
    out.mkdir(parents=True)
    take(model, out, copy_weights=False)
    finish(out, None, "the model")
    assert {path.suffix for path in model_files(model)} <= {".json", ".safetensors", ".jinja"}
    assert not [path for path in out.rglob("*") if path.suffix in {".py", ".bin", ".pt"}]
    assert not sprung.exists()


def test_a_data_set_script_is_refused_with_the_reason_and_never_run(tmp_path, home, sprung, capsys):
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("A data set.\n")
    (folder / "data" / "train.jsonl").write_text("".join(json.dumps(ROW) + "\n" for _ in range(30)))
    (folder / "set.py").write_text(f"from pathlib import Path\nPath({str(sprung)!r}).touch()\n")
    said = refused(capsys, "+recipe=sft", "data=path", f"data.path={folder}", "data.role=sft")
    assert "set.py" in said
    assert "data set scripts are never run here" in said
    assert not sprung.exists()


RUNS_CODE = {"eval", "exec", "compile", "__import__"}
LOADS_PICKLES = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
HARMLESS = {"joblib.Parallel", "joblib.delayed"}  # of those: they run our functions in processes of ours


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_module_runs_text_as_code_loads_pickles_or_trusts_remote_code(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else None
            assert name not in RUNS_CODE, f"{path}, line {node.lineno}"
            for word in node.keywords:
                trusts = word.arg in ("trust_remote_code", "confirm_run_unsafe_code", "allow_pickle", "shell")
                assert not (trusts and ast.unparse(word.value) != "False"), f"{path}, line {node.lineno}"
            if ast.unparse(node.func) == "torch.load":
                assert "weights_only=True" in ast.unparse(node), f"{path}, line {node.lineno}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            names = {f"{module}{name.name}" for name in node.names} - HARMLESS
            assert not LOADS_PICKLES & {name.partition(".")[0] for name in names}, f"{path}, line {node.lineno}"


def test_no_suite_has_tasks_that_run_what_a_model_writes():
    """No reward and no task runs a model's answers as code, so there is no sandbox; a suite that did would need one."""
    code_tasks = ("humaneval", "mbpp", "apps", "ds1000", "livecodebench", "bigcodebench")
    for path in (CONF / "suite").glob("*.yaml"):
        for task in yaml.safe_load(path.read_text()).get("tasks", {}):
            assert not task.startswith(code_tasks), f"{path.name}: {task}"
    for path in SOURCE.rglob("*.yaml"):
        assert "unsafe_code" not in path.read_text()
