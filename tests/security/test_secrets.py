"""What the environment holds in confidence is in no record, no MLflow store, no log and no message."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from urllib.parse import quote

import pytest

from polm_bench.cli import main
from polm_bench.run import isolate, upkeep
from polm_bench.run.job import Job
from polm_bench.run.launch import Launch
from polm_bench.run.redact import is_secret, scrub, scrubbed

SECRETS = {
    "HF_TOKEN": "hf_PLANTEDtokenPLANTEDtoken",
    "OPENAI_API_KEY": "sk-PLANTED-key-0123456789",
    "AWS_SECRET_ACCESS_KEY": "PLANTEDaws/secret+key",
    "MLFLOW_TRACKING_PASSWORD": "PLANTEDpassword",
    "POLM_TEST_CREDENTIALS": "PLANTED credentials",
}


@pytest.fixture
def planted(monkeypatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


def test_secrets_of_the_environment_and_logins_are_taken_out_of_a_text(planted):
    text = f"401 for {SECRETS['HF_TOKEN']} at https://me:pw@host/x, eos_token=</s>"
    assert scrub(text) == "401 for (removed) at https://host/x, eos_token=</s>"
    assert scrubbed({"a": [SECRETS["OPENAI_API_KEY"], 1, None]}) == {"a": ["(removed)", 1, None]}


def test_a_short_secret_does_not_make_holes_in_innocent_words(monkeypatch):
    monkeypatch.setenv("MY_KEY", "the")
    assert scrub("there is the rub") == "there is the rub"


@pytest.mark.parametrize(
    "write", [str, repr, json.dumps, lambda value: json.dumps({"a": [value]}), quote, lambda value: f"{os.environ}"]
)
def test_a_secret_of_several_lines_or_with_quotes_is_known_however_it_is_written(monkeypatch, write):
    for value in ("-----BEGIN KEY-----\nPLANTED\n-----END-----\n", "PLANTED 'it' \"too\"", "PLANTED\\x/ü&é?"):
        monkeypatch.setenv("DEPLOY_KEY", value)
        assert "PLANTED" not in scrub(f"it was {write(value)}.")


def test_an_empty_secret_is_found_nowhere(monkeypatch):
    monkeypatch.setenv("MY_KEY", " " * 9)
    assert scrub("nothing to hide") == "nothing to hide"


def test_a_secret_that_begins_like_another_leaves_nothing_of_the_longer_one(monkeypatch):
    monkeypatch.setenv("A_TOKEN", "PLANTED-one")
    monkeypatch.setenv("B_TOKEN", "PLANTED-one-and-two")
    assert scrub("PLANTED-one-and-two, PLANTED-one") == "(removed), (removed)"


@pytest.mark.parametrize("name", ["PGPASSWORD", "MYSQL_PWD", "GITHUB_PAT", "DB_PASS", "SSH_PASSPHRASE", "my.secret"])
def test_names_of_secrets_are_known(name):
    assert is_secret(name)


@pytest.mark.parametrize("name", ["PWD", "OLDPWD", "eos_token", "PATH", "MONKEY", "compass", "tokens", "bypass"])
def test_names_of_other_settings_are_none(name):
    assert not is_secret(name)


def test_a_secret_on_the_command_line_is_not_in_what_status_keeps(planted, home):
    upkeep.want(home, {"one": f"polm-bench run data.path=https://{SECRETS['HF_TOKEN']}/x"})
    assert "PLANTED" not in (home / "wanted" / "one.json").read_text()


def test_what_a_worker_that_failed_leaves_behind_has_no_secrets(planted, tmp_path):
    job = Job(tmp_path, tmp_path, {}, Launch("process", isolate=True), "cpu")
    isolate.write_result(job, {"kind": "failed", "text": f"KeyError: {dict(os.environ)}"})
    (left,) = tmp_path.iterdir()
    assert "(removed)" in left.read_text()
    assert "PLANTED" not in left.read_text()


def test_a_message_does_not_tell_what_an_override_took_from_the_environment(planted, home, capsys):
    assert main(["run", "+recipe=base", "seed=${oc.env:HF_TOKEN}"]) == 2
    assert main(["run", "+recipe=base", "data=path", "data.path=${oc.env:OPENAI_API_KEY}/x/y", "data.role=sft"]) == 2
    shown = capsys.readouterr()
    assert "PLANTED" not in shown.err + shown.out
    assert "(removed)" in shown.err


def test_the_address_of_mlflow_is_told_without_its_login(home, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:PLANTEDlogin@127.0.0.1:9")
    assert main(["ui"]) == 2
    assert main(["doctor"]) in (0, 1)
    shown = capsys.readouterr()
    assert "PLANTED" not in shown.err + shown.out
    assert "127.0.0.1:9" in shown.err


def test_a_crash_does_not_tell_what_its_message_quotes(planted, tmp_path):
    code = "import os\nfrom polm_bench.cli import app\n"
    code += "def crash(words): raise RuntimeError(f'with {dict(os.environ)}')\napp._dispatch = crash\napp.main(['ls'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert "RuntimeError: with {" in done.stderr
    assert "(removed)" in done.stderr
    assert "PLANTED" not in done.stderr


@pytest.mark.slow
def test_a_run_that_meets_secrets_everywhere_leaves_none_behind(toy_model, home, tmp_path):
    """One cell that ends well with its record in MLflow, and one that fails with a secret in its reason."""
    code = """
import os, sys
from polm_bench.cli import main
from polm_bench.stages import TrainSFT
words = ["run", f"model.path={sys.argv[1]}", "suite=smoke", "budget=smoke", "launch.threads=1"]
assert main([*words, "+recipe=base", "suite.name=${oc.env:OPENAI_API_KEY}"]) == 0
def leaks(self, job):
    raise RuntimeError(f"401 for token {os.environ['HF_TOKEN']} of {dict(os.environ)}")
TrainSFT.run = leaks
assert main([*words, "+recipe=sft"]) == 1
assert main(["show", "sft-"]) == 0
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(toy_model)],
        env=os.environ | SECRETS,
        capture_output=True,
        text=True,
        timeout=900,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "PLANTED" not in done.stdout + done.stderr
    failed = json.loads(next((home / "records").glob("sft-*.json")).read_text())
    assert failed["status"] == "failed"
    assert "401 for token (removed)" in failed["reason"]
    assert (home / "mlflow.db").exists()
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert not any(value.encode() in content for value in SECRETS.values()), path
