"""A user's mistake: one clear message, exit status 2, nothing started, nothing half-written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from polm_bench.cli import main
from polm_bench.errors import UnknownName

ROOT = Path(__file__).resolve().parent.parent
PAIR = {"prompt": "Say hello.", "chosen": "Hello!", "rejected": "No."}


@pytest.fixture
def said(home, capsys):
    """Runs a command that must be refused; gives what it said."""

    def call(*words: str) -> str:
        status = main(list(words))
        shown = capsys.readouterr()
        assert status == 2, shown.err
        assert shown.out == ""
        assert "Traceback" not in shown.err
        assert shown.err.startswith("error: ")
        assert not (home / "records").exists()
        assert not list((home / "store").glob("*-*")) if (home / "store").exists() else True
        return shown.err

    return call


@pytest.fixture
def pairs(tmp_path):
    """Writes a preference file and gives its path; rows may be text as they should stand in the file."""

    def write(*rows: dict | str | bytes) -> str:
        path = tmp_path / "pairs.jsonl"
        lines = [
            row if isinstance(row, bytes) else (row if isinstance(row, str) else json.dumps(row)).encode()
            for row in rows
        ]
        path.write_bytes(b"".join(line + b"\n" for line in lines))
        return str(path)

    return write


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["+recipe=dppo"], "no recipe named 'dppo'. Did you mean dpo"),
        (["+recipe=dpo", "model=nanno"], "no model named 'nanno'. Did you mean nano"),
        (["+recipe=dpo", "data=revews"], "no data named 'revews'. Did you mean reviews"),
        (["+recipe=dpo", "suite=zzz"], "no suite named 'zzz'. There is:"),
        (["+recipe=dpo", "budget=nanoo"], "no budget named 'nanoo'. Did you mean nano"),
        (["+recipe=dpo", "budget=3"], "no budget named '3'. There is: nano"),
        (["+recipe=dpo", "seed=0,1"], "'seed=0,1' gives several values, which is a sweep: polm-bench run -m"),
        (["+recipe=glob(*,exclude=_*)"], "gives several values, which is a sweep"),
        (["+recipe=dpo", "+foo=1"], "'+foo': there is no setting 'foo'. Groups: model"),
        (["+recipes=dpo"], "there is no setting 'recipes'"),
        (["dpo"], "no setting 'dpo'. Did you mean +recipe=dpo?"),
        (["+recipe=dpo", "smollm2_135m"], "Did you mean model=smollm2_135m?"),
        (["+recipe=dpo", "--config-dir", "/no/such/folder"], "directory '/no/such/folder' not found"),
        (["+recipe=dpo", "recipe.loss.betta=1"], "no setting 'recipe.loss.betta'. Did you mean recipe.loss.beta"),
        (["+recipe=dpo", "sed=1"], "no setting 'sed'. Did you mean seed"),
        (["+recipe=dpo", "recipe.loss.beta=high"], "recipe.loss.beta: Input should be a valid number"),
        (["+recipe=dpo", "recipe.optim.schedule=stairs"], "recipe.optim.schedule: Input should be 'linear', 'cosine'"),
        (["+recipe=dpo", "recipe.start=middle"], "recipe.start: Input should be 'sft' or 'base'"),
        (["+recipe=dpo", "seed=-1"], "a seed is a whole number"),
        (["+recipe=dpo", "budget.amount=0"], "budget.amount: Input should be greater than 0"),
        (["+recipe=dpo", "budget.unit=euros"], "budget.unit: Input should be 'steps', 'tokens', 'flops' or 'seconds'"),
        (["+recipe=dpo", "model.path=/no/such/folder"], "no such folder"),
        (["+recipe=dpo", "data=path", "data.path=/no/such/file.jsonl"], "/no/such/file.jsonl"),
        ([], "no recipe chosen. Say which with +recipe=NAME"),
        (["-m", "+recipe=base,dppo"], "no recipe named 'dppo'"),
        (["+recipe=dpo", "recipe.loss.beta=[1"], "'recipe.loss.beta=[1': it can't be read"),
        (["--recipe=dpo"], "'--recipe=dpo': there is no such option. Values are chosen without dashes"),
        (["+recipe=dpo", "--cfg", "all-of-it"], "invalid choice: 'all-of-it' (choose from"),
        (["+recipe=dpo", "--config-name", "run", "seed=1"], "'seed=1': overrides stand together"),
        (["+recipe=dpo", "+recipe=simpo"], "+recipe=dpo and +recipe=simpo: one cell has one recipe"),
        (["-m", "+recipe=glob(zzz*)"], "'+recipe=glob(zzz*)': no name matches"),
        (["+recipe=dpo", "~model"], "'~model': a cell has a value of each group"),
        (["+recipe={loss: 1}"], "recipe takes a name of its values"),
        (["-m", "+recipe=dpo", "~seed"], "'~seed': a cell has a value of each group, and a seed"),
        (["-m", "+recipe=dpo", "seed=interval(0,2)"], "'seed=interval(0,2)': a sweep takes single values, as seed=A,B"),
        (["+recipe=../dpo"], "no recipe named '../dpo'. Did you mean dpo"),
        (["+recipe=_preference"], "no recipe named '_preference'"),
        (["+recipe=dpo", "hydra.run.dir=/proc/x"], "Hydra writes nothing here. Stages and records lie under POLM_HOME"),
        (["+recipe=dpo", "data.path=rows.jsonl"], "no setting 'data.path'. Did you mean data=path data.path=?"),
        (["+recipe=dpo", "launch.num_processes=2"], "num_processes=2 needs workers of their own"),
        (["+recipe=dpo", "launch.device=cuda:99"], "launch.device=cuda:99: this machine has"),
        (["+recipe=dpo", "launch.device=gpu"], "launch.device: String should match pattern"),
        (["+recipe=dpo", f"seed={2**32}"], "a seed is a whole number from 0 to 4294967295"),
    ],
)
def test_a_wrong_word_is_named_with_what_there_is(said, words, expected):
    assert expected in said("run", *words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["table", "reviews", "--jobs", "2"], "--jobs and --launch say how cells are run. Add --run"),
        (["power", "--effect", "nan"], "--effect nan: a difference to be seen is above zero"),
        (["report", "reviews", "--out", "/proc/no.html"], "/proc/no.html can't be written"),
        (["compare", "dpo-nano", "simpoo", "--records", "results/five_paradigms/records"], "records start so"),
        (
            ["compare", "dpo-nano-nano-nano-nano-s0", "simpoo", "--records", "results/five_paradigms/records"],
            "no record named 'simpoo'. Did you mean simpo-nano-nano-nano-nano-s0-",
        ),
    ],
)
def test_a_wrong_argument_of_another_command_is_named(said, monkeypatch, words, expected):
    monkeypatch.chdir(ROOT)
    assert expected in said(*words)


def test_of_many_names_a_message_shows_twenty():
    names = [f"{letter}{number}" for letter in "ab" for number in range(30)]
    assert str(UnknownName("thing", "zzz", names)).endswith("and 40 more.")


def test_a_role_that_the_data_lacks_is_named(said, pairs):
    text = json.dumps({"text": "Some text to read."})
    message = said("run", "+recipe=dpo", "data=path", f"data.path={pairs(*[text] * 20)}", "data.role=corpus")
    assert "recipe 'dpo' needs the data role 'sft'" in message
    assert "corpus" in message


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], "empty"),
        ([PAIR, PAIR | {"chosen": ""}], "chosen"),
        ([PAIR, {"prompt": "x", "chosen": "y"}], "rejected"),
        ([PAIR, PAIR | {"chosen": 3}], "chosen"),
        ([PAIR, "{not json"], "2"),
        ([PAIR, b"\xff\xfe{}"], "UTF-8"),
    ],
)
def test_a_bad_data_file_is_named_by_file_line_and_field(said, pairs, rows, expected):
    message = said("run", "+recipe=dpo", "data=path", f"data.path={pairs(*rows)}")
    assert "pairs.jsonl" in message
    assert expected in message


def test_rows_of_another_role_are_answered_with_their_columns(said, pairs):
    rows = [{"prompt": f"Say {word}.", "completion": word} for word in ("this", "that")]
    message = said("run", "+recipe=sft", "data=path", f"data.path={pairs(*rows)}")
    assert "the role 'preference' needs it. Columns here: prompt, completion." in message
    assert "role=" in message


@pytest.mark.parametrize(
    ("missing", "expected"),
    [("model.safetensors", "weights"), ("tokenizer.json", "tokenizer"), ("config.json", "config.json")],
)
def test_a_model_folder_with_something_missing_is_named(said, toy_model, tmp_path, missing, expected):
    folder = shutil.copytree(toy_model, tmp_path / "model")
    (folder / missing).unlink()
    message = said("run", "+recipe=dpo", f"model.path={folder}")
    assert str(folder) in message
    assert expected in message


def test_pickle_weights_are_refused_with_the_reason(said, toy_model, tmp_path):
    folder = shutil.copytree(toy_model, tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "pickle" in said("run", "+recipe=dpo", f"model.path={folder}")


def test_a_store_that_cant_be_written_is_named(said, home):
    home.parent.mkdir(exist_ok=True)
    home.write_text("in the way")
    assert "can't be written" in said("run", "+recipe=base", "suite=smoke")


def test_a_hub_id_without_network_or_cache_is_named(said, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = said("run", "+recipe=base", "model=path", "model.path=nobody/such-model-anywhere")
    assert "nobody/such-model-anywhere" in message


def test_several_workers_on_one_cell_are_refused(said, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "one process" in said("run", "+recipe=base", "suite=smoke")


def test_plan_takes_no_other_option_of_hydra_than_its_sweep(said):
    assert "--cfg: plan runs nothing and takes overrides, -m and --json alone" in said(
        "plan", "--cfg", "job", "+recipe=dpo"
    )
    assert "no recipe named 'dppo'" in said("plan", "-m", "+recipe=dpo,dppo")


def test_plan_says_the_same_as_run(said):
    assert "no recipe named 'dppo'" in said("plan", "+recipe=dppo")
