"""A folder that comes from elsewhere takes nothing from outside itself, and what is no file in it is said, not waited for."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from polm_bench.cli import main
from polm_bench.data.files import data_files
from polm_bench.data.formats import RoleMap
from polm_bench.data.hub import HubData
from polm_bench.errors import BadData, BadModel
from polm_bench.models.folder import check_folder

ROWS = "".join(json.dumps({"prompt": f"Say {i}.", "completion": f"Hello {i}!"}) + "\n" for i in range(30))


@pytest.fixture
def secret(tmp_path) -> Path:
    """A file that lies outside every folder here."""
    path = tmp_path / "secret.jsonl"
    path.write_text(ROWS)
    return path


@pytest.fixture
def flat(tmp_path) -> Path:
    folder = tmp_path / "flat"
    folder.mkdir()
    return folder


@pytest.fixture
def laid_out(tmp_path) -> Path:
    """A folder like a data set of the hub."""
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("A data set.\n")
    (folder / "data" / "train.jsonl").write_text(ROWS)
    return folder


def rows_of(folder: Path, **files: tuple[str, ...]) -> list:
    layout = {"sft": RoleMap(layout="columns", train="train")}
    return HubData(name="set", path=str(folder), roles_from=layout, files=files).role("sft").load("train")


def test_a_link_in_a_folder_of_data_leads_to_its_own_files(flat, secret):
    (flat / "first.jsonl").write_text(ROWS)
    (flat / "second.jsonl").symlink_to("first.jsonl")
    assert len(data_files(str(flat), "data.path")) == 2
    (flat / "third.jsonl").symlink_to(secret)
    with pytest.raises(BadData, match=r"third\.jsonl: this link leads out of"):
        data_files(str(flat), "data.path")
    assert data_files(str(secret), "data.path") == [secret]  # whom the user names by its own path is read


@pytest.mark.parametrize("files", [{}, {"train": ("data/*.jsonl",)}])
def test_a_link_in_a_data_set_leads_to_its_own_files(laid_out, secret, files):
    assert rows_of(laid_out, **files)
    (laid_out / "data" / "train.jsonl").unlink()
    (laid_out / "data" / "train.jsonl").symlink_to(secret)
    with pytest.raises(BadData, match="a link leads out of it"):
        rows_of(laid_out, **files)


def test_the_hubs_own_cache_of_links_to_blobs_is_read(laid_out, tmp_path):
    blobs, snapshot = tmp_path / "cache" / "blobs", tmp_path / "cache" / "snapshots" / ("c" * 40)
    blobs.mkdir(parents=True)
    shutil.copytree(laid_out, snapshot)
    (snapshot / "data" / "train.jsonl").rename(blobs / "b10b")
    (snapshot / "data" / "train.jsonl").symlink_to("../../../blobs/b10b")
    assert rows_of(snapshot)


@pytest.mark.parametrize("absolute", [True, False])
def test_what_a_data_sets_readme_says_leads_to_its_own_files(laid_out, secret, absolute):
    told = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: {}\n---\n"
    (laid_out / "README.md").write_text(told.format("data/train.jsonl"))
    assert rows_of(laid_out)
    (laid_out / "README.md").write_text(told.format(secret if absolute else "../secret.jsonl"))
    with pytest.raises(BadData, match=r"its README\.md leads out of it, to .*secret\.jsonl"):
        rows_of(laid_out)


def test_a_data_sets_readme_that_is_no_yaml_is_told(laid_out):
    (laid_out / "README.md").write_text("---\nconfigs: [1,\n---\n")
    with pytest.raises(BadData, match="can't be read"):
        rows_of(laid_out)


def dangle(path: Path) -> None:
    path.symlink_to("nowhere")


def circle(path: Path) -> None:
    path.symlink_to(path.name)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


NO_FILES: list[Callable[[Path], None]] = [dangle, circle, endless, os.mkfifo, Path.mkdir]


@pytest.mark.parametrize("make", NO_FILES, ids=lambda make: make.__name__)
def test_what_is_no_file_among_the_data_is_named_and_not_waited_for(flat, make):
    (flat / "train.jsonl").write_text(ROWS)
    make(flat / "x.jsonl")
    with pytest.raises(BadData, match=r"x\.jsonl: no file, or a link to one that isn't there"):
        data_files(str(flat), "data.path")


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero", "/dev/stdin"])
def test_a_device_is_no_data(path):
    with pytest.raises(BadData, match="no data file"):
        data_files(path, "data.path")


@pytest.fixture
def model(toy_model, tmp_path) -> Path:
    return shutil.copytree(toy_model, tmp_path / "model")


@pytest.mark.parametrize("make", NO_FILES, ids=lambda make: make.__name__)
def test_weights_that_are_no_file_are_named_and_not_waited_for(model, make):
    (model / "model.safetensors").unlink()
    make(model / "model.safetensors")
    with pytest.raises(BadModel, match=r"model\.safetensors is no file, or a link to one that isn't there"):
        check_folder(model, "model")


def header(value: object) -> bytes:
    told = value if isinstance(value, bytes) else json.dumps(value).encode()
    return len(told).to_bytes(8, "little") + told


@pytest.mark.parametrize(
    "told",
    [[], 3, {}, {"a": {}}, {"a": None}, {"a": []}, {"a": {"data_offsets": ["x", "y"]}}, {"a": {"data_offsets": [0]}}],
)
def test_weights_with_another_header_are_no_safetensors(model, told):
    (model / "model.safetensors").write_bytes(header(told))
    with pytest.raises(BadModel, match="is not a whole safetensors file"):
        check_folder(model, "model")


def test_nested_text_does_not_exhaust_the_reader(model, flat):
    deep = b"[" * 100_000 + b"]" * 100_000
    (model / "model.safetensors").write_bytes(header(deep))
    with pytest.raises(BadModel, match="is not a whole safetensors file"):
        check_folder(model, "model")
    (model / "config.json").write_bytes(deep)
    with pytest.raises(BadModel, match="is not readable JSON"):
        check_folder(model, "model")


@pytest.mark.parametrize("name", ["config.json", "chat_template.jinja", "tokenizer.json"])
def test_a_link_among_a_models_texts_leads_to_its_own_files(model, secret, name):
    path = model / name
    if path.exists():
        path.rename(model / "moved")
        path.symlink_to("moved")
        check_folder(model, "model")
        path.unlink()
        shutil.copyfile(model / "moved", secret)
    path.symlink_to(secret)
    with pytest.raises(BadModel, match=f"{name} is a link that leads out of"):
        check_folder(model, "model")


def test_weights_may_lie_on_another_disk(model, tmp_path):
    (model / "model.safetensors").rename(tmp_path / "large.safetensors")
    (model / "model.safetensors").symlink_to(tmp_path / "large.safetensors")
    check_folder(model, "model")


@pytest.mark.parametrize("setting", ["attn_implementation", "experts_implementation"])
def test_a_model_that_asks_for_code_of_the_hub_is_refused_with_the_reason(model, setting):
    told = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(told | {setting: "sdpa"}))
    check_folder(model, "model")
    (model / "config.json").write_text(json.dumps(told | {setting: "someone/kernel"}))
    with pytest.raises(BadModel, match=f"{setting}=someone/kernel: code of a hub repository, which is never run"):
        check_folder(model, "model")


@pytest.mark.parametrize("places", [[], 3, None, {"a": 3}, {"a": "x\0y"}])
def test_an_index_of_another_kind_is_no_crash(model, places):
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    if not places or places == 3:
        check_folder(model, "model")
    else:
        with pytest.raises(BadModel, match="Copy or download all shards"):
            check_folder(model, "model")


@pytest.mark.parametrize("words", [["model.path={}"], ["data=path", "data.path={}"]], ids=lambda words: words[-1])
def test_a_name_that_no_file_system_takes_is_told_as_such(home, capsys, words):
    assert main(["plan", "+recipe=sft", *(word.format("x" * 5000) for word in words)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "File name too long" in said
