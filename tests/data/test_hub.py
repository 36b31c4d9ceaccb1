"""Hub data sets, as local folders with the hub's layout and the documented columns of each."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import yaml

from polm_bench.data import HubData, RoleMap
from polm_bench.data.hub import refuse_scripts
from polm_bench.data.roles import check_rows
from polm_bench.errors import BadData, Unreachable
from polm_bench.graph import identity

CONF = Path(__file__).parents[2] / "conf" / "data"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """The data sets library keeps its copies under the test's folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def configured(name: str, path: Path | str, **settings: object) -> HubData:
    """The source that conf/data/NAME.yaml describes, at another path."""
    found = {
        key: value for key, value in yaml.safe_load((CONF / f"{name}.yaml").read_text()).items() if key != "_target_"
    }
    roles = {
        role: RoleMap(**{key: value for key, value in mapping.items() if key != "_target_"})
        for role, mapping in found.pop("roles_from").items()
    }
    return HubData(**{**found, "roles_from": roles, "path": str(path), **settings})


def parquet(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def chat(*said: str) -> list[dict]:
    return [{"content": text, "role": ("user", "assistant")[turn % 2]} for turn, text in enumerate(said)]


def ultrafeedback(folder: Path, bad: int = 0) -> Path:
    def row(n: int) -> dict:
        asked = f"Question {n}?"
        good = "" if n < bad else f"good {n}"
        return {
            "prompt": asked,
            "prompt_id": str(n),
            "chosen": chat(asked, good),
            "rejected": chat(asked, f"bad {n}"),
            "messages": chat(asked, good),
            "score_chosen": 8.5,
            "score_rejected": 6.0,
        }

    parquet(folder / "data" / "train_prefs-00000-of-00001.parquet", [row(n) for n in range(100)])
    parquet(folder / "data" / "test_prefs-00000-of-00001.parquet", [row(n) for n in range(100, 110)])
    return folder


def test_ultrafeedback_gives_pairs_with_margins_and_what_follows(tmp_path):
    data = configured("ultrafeedback", ultrafeedback(tmp_path / "d"))
    pairs = data.role("preference")
    assert pairs.load("train")[0] == {
        "prompt": chat("Question 0?"),
        "chosen": "good 0",
        "rejected": "bad 0",
        "margin": 2.5,
    }
    assert [len(pairs.load(split)) for split in ("train", "validation")] == [100, 10]
    assert data.role("sft").load("validation")[0]["completion"] == "good 100"
    for role in data.roles():
        assert check_rows(role, data.role(role).load("train"), "d")


def test_hh_transcripts_are_split_before_the_last_answer(tmp_path):
    start = "\n\nHuman: Hi there\n\nAssistant: Hello!\n\nHuman: Tell me\na joke\n\nAssistant:"
    for name, answer in (("train", "First"), ("test", "Second")):
        for subset in ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled"):
            path = tmp_path / "d" / subset / f"{name}.jsonl.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            row = {"chosen": f"{start} {answer} {subset}.", "rejected": f"{start} No."}
            path.write_bytes(gzip.compress((json.dumps(row) + "\n").encode()))
    data = configured("hh_rlhf", tmp_path / "d")
    rows = data.role("preference").load("validation")
    assert len(rows) == 4
    assert rows[0] == {
        "prompt": chat("Hi there", "Hello!", "Tell me\na joke"),
        "chosen": "Second harmless-base.",
        "rejected": "No.",
    }


def test_gsm8k_gives_answers_to_check_and_steps_to_imitate(tmp_path):
    rows = [
        {
            "question": f"How many are {n} and 1,000?",
            "answer": f"{n}+1000=<<{n}+1000={n + 1000}>>{n + 1000}\n#### {n + 1000:,}",
        }
        for n in range(50)
    ]
    parquet(tmp_path / "d" / "main" / "train-00000-of-00001.parquet", rows)
    parquet(tmp_path / "d" / "main" / "test-00000-of-00001.parquet", [{"question": "Test?", "answer": "#### 1"}])
    data = configured("gsm8k", tmp_path / "d")
    checked = {row["prompt"][0]["content"]: row for row in data.role("verifiable").load("train")}
    assert checked["How many are 7 and 1,000?"] == {
        "prompt": chat("How many are 7 and 1,000?"),
        "answer": "1007",
        "checker": "number",
    }
    assert "Test?" not in checked
    steps = {row["prompt"][0]["content"]: row["completion"] for row in data.role("sft").load("train")}
    assert steps["How many are 7 and 1,000?"] == "7+1000=1007\n#### 1,007"
    assert len(data.role("verifiable").load("validation")) == 1


def test_tulu_conversations_end_in_the_completion_and_limit_takes_every_nth(tmp_path):
    rows = [
        {"id": str(n), "messages": chat(f"Ask {n}?", "Yes.", "Sure?", f"Sure {n}."), "source": "x"} for n in range(40)
    ]
    for part in range(2):
        parquet(tmp_path / "d" / "data" / f"train-0000{part}-of-00002.parquet", rows[part * 20 : part * 20 + 20])
    data = configured("tulu3_sft", tmp_path / "d", limit=10)
    found = data.role("sft").load("train") + data.role("sft").load("validation")
    assert sorted(int(row["completion"][5:-1]) for row in found) == list(range(0, 40, 4))
    assert found[0]["prompt"][-1] == {"role": "user", "content": "Sure?"}


def test_ultrachat_has_splits_for_both(tmp_path):
    for split, count in (("train_sft", 12), ("test_sft", 3)):
        rows = [{"prompt": f"Ask {n}?", "messages": chat(f"Ask {n}?", f"{split} {n}.")} for n in range(count)]
        parquet(tmp_path / "d" / "data" / f"{split}-00000-of-00001.parquet", rows)
    data = configured("ultrachat", tmp_path / "d")
    assert [len(data.role("sft").load(split)) for split in ("train", "validation")] == [12, 3]
    assert data.role("sft").load("validation")[0]["completion"].startswith("test_sft")


@pytest.mark.parametrize("name", ["openhermes", "magpie"])
def test_conversations_from_people_and_models_become_messages(tmp_path, name):
    def said(n: int) -> list[dict]:
        return [{"from": "human", "value": f"Ask {n}?"}, {"from": "gpt", "value": f"Answer {n}."}]

    rows = [{"conversations": said(n)} for n in range(40)]
    if name == "openhermes":
        (tmp_path / "d").mkdir()
        (tmp_path / "d" / "openhermes2_5.json").write_text(json.dumps(rows))
    else:
        parquet(tmp_path / "d" / "data" / "train-00000-of-00001.parquet", rows)
    data = configured(name, tmp_path / "d")
    found = data.role("sft").load("train") + data.role("sft").load("validation")
    asked = [{"role": "user", "content": "Ask 0?"}]
    assert len(found) == 40
    assert next(row["completion"] for row in found if row["prompt"] == asked) == "Answer 0."


def test_a_data_set_that_names_its_splits_itself_needs_no_files(tmp_path):
    parquet(tmp_path / "d" / "a" / "one.parquet", [{"text": f"text {n}"} for n in range(4)])
    parquet(tmp_path / "d" / "b" / "two.parquet", [{"text": f"text {n}"} for n in range(4, 6)])
    (tmp_path / "d" / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: a/*\n  - split: dev\n    path: b/*\n---\n"
    )
    data = HubData(name="own", path=str(tmp_path / "d"), roles_from={"corpus": RoleMap(validation="dev")})
    assert [len(data.role("corpus").load(split)) for split in ("train", "validation")] == [4, 2]
    with pytest.raises(BadData, match="split 'none'"):
        HubData(name="own", path=str(tmp_path / "d"), roles_from={"corpus": RoleMap(train="none")}).role("corpus").load(
            "train"
        )


def test_few_bad_rows_are_left_out_and_many_are_an_error(tmp_path, caplog):
    few = configured("ultrafeedback", ultrafeedback(tmp_path / "few", bad=2)).role("preference")
    assert len(few.load("train")) == 98
    assert "2 of 100 rows left out" in caplog.text
    many = configured("ultrafeedback", ultrafeedback(tmp_path / "many", bad=3)).role("preference")
    with pytest.raises(BadData, match=r"row 1, field 'chosen': empty.*2 more of 100 rows"):
        many.load("train")


def test_identity_of_a_folder_is_its_content(tmp_path):
    one, two = ultrafeedback(tmp_path / "one"), ultrafeedback(tmp_path / "two")
    keys = [
        identity(configured("ultrafeedback", path).role("sft"))
        for path in (one, two, ultrafeedback(tmp_path / "three", bad=1))
    ]
    assert keys[0] == keys[1] != keys[2]


def test_identity_of_a_hub_data_set_is_its_commit_and_needs_no_network():
    rows = configured("ultrafeedback", "HuggingFaceH4/ultrafeedback_binarized", revision="a" * 40).role("preference")
    assert (rows.repo, rows.commit, rows.sha256) == ("HuggingFaceH4/ultrafeedback_binarized", "a" * 40, None)


def test_no_network_and_no_cache_is_one_clear_error(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        Unreachable, match="dataset nobody/nothing at revision main is needed, and neither the hub nor the cache has it"
    ):
        configured("ultrafeedback", "nobody/nothing").role("preference")


def test_a_data_set_script_is_refused_and_not_run(tmp_path):
    folder = ultrafeedback(tmp_path / "d")
    (folder / "d.py").write_text("raise SystemExit('ran')")
    with pytest.raises(BadData, match=r"Python code beside the data \(d\.py\)"):
        configured("ultrafeedback", folder).role("preference")
    with pytest.raises(BadData, match="never run"):
        refuse_scripts(folder, "d")


def test_a_missing_folder_a_file_and_an_unmatched_pattern_are_said(tmp_path):
    with pytest.raises(BadData, match="no such folder"):
        configured("gsm8k", tmp_path / "none").role("sft")
    (tmp_path / "a.jsonl").write_text("{}")
    with pytest.raises(BadData, match=r"data=path data\.path="):
        configured("gsm8k", tmp_path / "a.jsonl").role("sft")
    with pytest.raises(BadData, match=r"no file matches main/train-\*\.parquet"):
        configured("gsm8k", ultrafeedback(tmp_path / "d")).role("sft").load("train")
