"""The command line: what goes to which stream, exit statuses, speed, and help."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest
import yaml

from polm_bench import __version__, settings
from polm_bench.cli import catalogue, main
from polm_bench.cli.arguments import parser
from polm_bench.cli.completion import candidates, script
from polm_bench.cli.examples import EXAMPLES
from polm_bench.cli.printing import cell_text, markdown
from polm_bench.paths import conf_dir
from polm_bench.settings import composed, file_of, options

COMMANDS = tuple(name for name in EXAMPLES if name)
ROOT = Path(__file__).resolve().parent.parent


def polm(*words: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does, with its state under `home`."""
    return subprocess.run(
        [sys.executable, "-m", "polm_bench", *words],
        capture_output=True,
        text=True,
        env=os.environ | {"POLM_HOME": str(home), "PYTHONPATH": str(ROOT / "src")} | environment,
        cwd=home,
        timeout=300,
    )


def examples() -> list[list[str]]:
    """The words of every command in the help's examples and in the README's indented lines; what follows two spaces is a remark."""
    readme = re.findall(r"^    (polm-bench .+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    helped = [line.strip() for text in EXAMPLES.values() for line in text.splitlines() if "polm-bench" in line]
    commands = (re.split(r"  +|\)\"", line)[0].partition("polm-bench ")[2] for line in [*readme, *helped])
    return [shlex.split(command, comments=True) for command in commands]


def test_version(tmp_path):
    assert polm("--version", home=tmp_path).stdout == f"polm-bench {__version__}\n"


@pytest.mark.parametrize("words", examples(), ids=" ".join)
def test_every_example_names_what_there_is(words):
    command, *rest = words
    if command in ("table", "report"):
        assert rest[0] in [*options("table"), *options("published")]
    if command not in ("run", "plan", "tune"):
        parser().parse_args([command, *takewhile(lambda word: word != "|", rest)])
    for word in rest:
        group, _, values = word.lstrip("+").partition("=")
        if group in catalogue.groups() and "glob(" not in values:
            assert set(values.split(",")) <= set(options(group))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command, tmp_path):
    found = polm(command, "--help", home=tmp_path)
    assert found.returncode == 0
    assert f"polm-bench {command}" in found.stdout.split("examples:")[1]


@pytest.mark.parametrize("words", [["ls"], ["--help"], ["run", "--help"]], ids=" ".join)
def test_listing_and_help_import_no_library_of_weight(words, tmp_path):
    code = (
        f"import sys\nsys.argv = ['polm-bench', *{words!r}]\nfrom polm_bench.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'pydantic', 'hydra', 'numpy', 'rich', 'mlflow', 'transformers'}\n"
        "sys.exit(str(sorted(heavy & set(sys.modules))) if heavy & set(sys.modules) else 0)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"POLM_HOME": str(tmp_path)}
    )
    assert (found.returncode, found.stderr) == (0, "")


def test_ls_lists_every_yaml_of_the_configuration(tmp_path):
    listed = json.loads(polm("ls", "--json", home=tmp_path).stdout)
    for kind, group in catalogue.GROUP_OF.items():
        assert [row["name"] for row in listed[kind]] == options(group)
    assert listed["records"] == []
    assert "dpo" in [row["name"] for row in listed["recipes"]]


def test_every_recipe_is_listed_with_title_paradigm_family_and_paper():
    for row in catalogue.rows("recipes", Path("nowhere")):
        assert all(row[name] for name in ("title", "paradigm", "family", "paper", "shape")), row


@pytest.mark.parametrize("kind", catalogue.KINDS)
def test_a_piped_listing_is_plain_text_of_eighty_columns(kind, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("POLM_HOME", str(tmp_path))
    monkeypatch.delenv("COLUMNS", raising=False)
    assert main(["ls", kind]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    for row in catalogue.rows(kind, tmp_path):
        assert re.search(rf"(?m)^{row['name']} ", text)


def test_records_are_listed_by_what_they_are(tmp_path):
    (tmp_path / "records").mkdir()
    scores = [
        {"row": "base", "task": "t", "metric": "acc", "value": 0.1, "headline": True},
        {"row": "self", "task": "t", "metric": "acc", "value": 0.5, "headline": True},
        {"row": "self", "task": "t", "metric": "other", "value": 0.7, "headline": False},
    ]
    cell = {"recipe": "dpo", "model": "nano", "data": "nano", "budget": "nano", "suite": "nano", "seed": 0}
    record = {"id": "dpo-nano-s0-abc", "status": "ok", "cell": cell, "scores": scores}
    (tmp_path / "records" / "dpo-nano-s0-abc.json").write_text(json.dumps(record))
    (tmp_path / "records" / "broken.json").write_text("{")
    found = json.loads(polm("ls", "records", "--json", home=tmp_path).stdout)
    assert [row["status"] for row in found] == ["unreadable", "ok"]
    assert found[1]["scores"] == {"t/acc": 0.5}


def test_show_gives_each_number_with_the_source_beside_it(tmp_path):
    found = json.loads(polm("show", "dpo", "--json", home=tmp_path).stdout)
    beta = next(row for row in found["numbers"] if row["setting"] == "recipe.loss.beta")
    assert beta["value"] == "0.1"
    assert "Appendix B" in beta["source"]
    assert found["meta"]["paper"] == "arXiv:2305.18290"
    assert "TrainPairs" in [stage["stage"] for stage in found["graph"]]


def test_the_numbers_of_a_recipe_are_those_of_its_files_the_last_one_winning(tmp_path, monkeypatch):
    folder = tmp_path / "conf" / "recipe"
    folder.mkdir(parents=True)
    (folder / "_shared.yaml").write_text("start: sft\noptim:\n  lr: 1.0e-6  # here\n  warmup: 0.1\n")
    (folder / "mine.yaml").write_text(
        "defaults: [_shared, _self_]\nmeta: {title: Mine}\noptim:\n  lr: 2.0e-6 # there\n"
    )
    monkeypatch.setattr(settings, "conf_dir", lambda: tmp_path / "conf")
    assert [(row["setting"], row["value"], row["source"]) for row in catalogue.numbers("recipe", "mine")] == [
        ("recipe.start", "sft", ""),
        ("recipe.optim.lr", "2.0e-6", "there"),
        ("recipe.optim.warmup", "0.1", ""),
    ]
    assert composed(file_of("recipe", "mine"))["optim"] == {"lr": 2e-6, "warmup": 0.1}


def test_plan_says_what_is_missing_and_writes_nothing(tmp_path):
    found = polm("plan", "+recipe=dpo", "--json", home=tmp_path)
    told = json.loads(found.stdout)
    assert told["missing"] == len(told["stages"])
    assert not any(stage["done"] for stage in told["stages"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["rn"], "Did you mean run?"),
        (["ls", "recipe"], "Did you mean recipes?"),
        (["show", "simpoo"], "Did you mean simpo"),
        (["table", "nope"], "no table named 'nope'"),
        (["compare", "a", "b"], "there is no record in"),
        (["power", "--effect", "0.02"], "--records results/five_paradigms/records"),
        (["table", "spine", "--jobs", "0"], "give 1 or more. See"),
        (["run", "+recipe=simpoo"], "Did you mean simpo"),
        (["run", "+recipe=dpo", "model=nanoo"], "Did you mean nano?"),
        (["run"], "no recipe chosen"),
        (["plan", "+recipe=dpo", "seed=minus"], "seed"),
        (["ui", "--host", "0.0.0.0"], "no loopback address"),
        (["ui", "--port", "99999"], "no port"),
        (["track"], "required: replay"),
        (["ls", "--formt"], "--formt"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_message_on_stderr_status_2_and_nothing_written(words, says, tmp_path):
    found = polm(*words, home=tmp_path)
    assert found.returncode == 2
    assert found.stdout == ""
    assert found.stderr.startswith("error: ")
    assert says in found.stderr
    assert "Traceback" not in found.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_address_others_could_reach_is_refused_for_the_ui(tmp_path):
    for host in ("0.0.0.0", "192.168.0.1", "example.org", "::"):
        assert "no loopback address" in polm("ui", "--host", host, home=tmp_path).stderr


def test_a_closed_pipe_ends_quietly(tmp_path):
    command = f"{sys.executable} -m polm_bench ls --json | head -c 1"
    found = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=os.environ | {"POLM_HOME": str(tmp_path)}
    )
    assert found.stderr == ""


def test_doctor_names_machine_packages_and_how_to_get_what_is_missing(tmp_path):
    found = json.loads(polm("doctor", "--json", home=tmp_path).stdout)
    assert found["machine"]["devices"]
    assert found["paths"]["conf"] == str(conf_dir())
    assert {"torch", "transformers", "mlflow"} <= {row["package"] for row in found["packages"]}
    for part in found["optional"]:
        assert part["state"] != "missing" or part["install"].startswith("pip install")


def test_completion_knows_commands_groups_values_and_numbers():
    assert candidates(["polm-bench", "pl"]) == ["plan"]
    assert candidates(["polm-bench", "run", "+recipe=simp"]) == ["+recipe=simpo"]
    assert "model=nano" in candidates(["polm-bench", "run", "+recipe=dpo", "model="])
    assert candidates(["polm-bench", "run", "+recipe=dpo,simp"]) == ["+recipe=dpo,simpo"]
    assert candidates(["polm-bench", "plan", "+recipe=simpo", "recipe.loss.g"]) == ["recipe.loss.gamma="]
    assert candidates(["polm-bench", "ls", "rec"]) == ["recipes", "records"]
    assert "--run" in candidates(["polm-bench", "table", "--r"])
    assert candidates(["polm-bench", "nonsense", ""]) == []


def test_bash_completes_an_override_after_its_equals_sign(tmp_path):
    (tmp_path / "polm-bench").write_text(f'#!/bin/sh\nexec {sys.executable} -m polm_bench "$@"\n')
    (tmp_path / "polm-bench").chmod(0o755)
    typed = "polm-bench run +recipe=simp"
    ask = f"{script('bash')}\nCOMP_LINE='{typed}' COMP_POINT={len(typed)} _polm_bench; echo \"${{COMPREPLY[@]}}\""
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src")}
    found = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, env=environment)
    assert found.stdout == "simpo\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_valid(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n"], input=script(shell), text=True, check=True)


def test_values_read_as_people_write_them():
    assert [cell_text(value) for value in (None, True, 240000, 0.12345, 2000.0, ["a", 1], {"x": 0.5})] == [
        "",
        "yes",
        "240,000",
        "0.1235",
        "2,000",
        "a, 1",
        "x 0.5",
    ]


def test_a_markdown_table_escapes_bars():
    assert markdown([{"a": "x|y", "b": 1}], ["a", "b"]) == "| a | b |\n| --- | --- |\n| x\\|y | 1 |\n"


def test_the_readme_lists_what_there_is(tmp_path):
    text = (ROOT / "README.md").read_text()
    for kind in ("recipes", "models", "data", "suites", "budgets"):
        table = polm("ls", kind, "--format", "md", home=tmp_path).stdout
        assert f"<!-- ls {kind} -->\n{table}<!-- /ls -->" in text, "run: python tests/refresh_readme.py"


def test_the_readme_shows_simpo_as_it_is():
    shown = yaml.safe_load(re.search(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1])
    found = yaml.safe_load((conf_dir() / "recipe" / "simpo.yaml").read_text())
    assert shown == {name: value for name, value in found.items() if name != "meta"}


def test_an_interrupted_command_ends_with_130(tmp_path):
    code = "import os, signal, sys\nfrom polm_bench.cli import app\n"
    code += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell may start background jobs with it ignored
    code += "app._dispatch = lambda words: os.kill(os.getpid(), signal.SIGINT)\nsys.exit(app.main(['ls']))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode == 130
    assert found.stderr.startswith("interrupted")
