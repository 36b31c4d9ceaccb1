"""A name or a path in a configuration, a model, data or a record leads nowhere but into its own folder."""

from __future__ import annotations

import json
import shutil

import pytest

from polm_bench.cli import main
from polm_bench.data.formats import RoleMap
from polm_bench.data.hub import HubData
from polm_bench.errors import BadData, BadModel, BadOverride, StoreError, UnknownName
from polm_bench.models.fetch import package_folder
from polm_bench.models.folder import check_folder
from polm_bench.paths import conf_dir
from polm_bench.report.records import read
from polm_bench.report.spec import load_spec
from polm_bench.stages import Suite


@pytest.mark.parametrize("inside", ["../../..", "../nano/tasks/../../../../..", "/etc"])
def test_a_suites_folder_stays_in_its_package(inside):
    suite = Suite(name="x", tasks={}, headline={}, batch_size=1, include=(f"package:polm_bench.data.nano/{inside}",))
    with pytest.raises(BadOverride, match="leads out of the package"):
        suite.pinned()


@pytest.mark.parametrize("name", ["package:..", "package:../data", "package:nano/..", "package:/etc", "package:"])
def test_a_packaged_model_is_one_of_the_packages(name):
    with pytest.raises(BadModel, match="the package has no such model"):
        package_folder(name)


@pytest.mark.parametrize("shard", ["../elsewhere.safetensors", "/etc/passwd", "sub/model.safetensors"])
def test_a_models_index_names_files_of_its_own_folder(toy_model, tmp_path, shard):
    folder = shutil.copytree(toy_model, tmp_path / "model")
    shutil.copyfile(toy_model / "model.safetensors", tmp_path / "elsewhere.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(BadModel, match="no file of the model's own folder"):
        check_folder(folder, "model")


@pytest.mark.parametrize("pattern", ["../*.jsonl", "data/../../secret.jsonl", "/etc/*.jsonl"])
def test_data_files_are_named_inside_the_data_sets_folder(tmp_path, pattern):
    folder = tmp_path / "set"
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("A data set.\n")
    row = json.dumps({"prompt": "a", "completion": "b"}) + "\n"
    (folder / "data" / "train.jsonl").write_text(row * 30)
    (tmp_path / "secret.jsonl").write_text(row * 30)
    data = HubData(
        name="set",
        path=str(folder),
        roles_from={"sft": RoleMap(layout="columns", train="train")},
        files={"train": (pattern,)},
    )
    with pytest.raises(BadData, match="leads out of"):
        data.role("sft").load("train")


def test_a_records_items_lie_beside_it(tmp_path):
    from tests.report.synthetic import make_record, write_json

    for name in ("../secret.parquet", "/etc/passwd", "items/../../secret.parquet", 3):
        path = write_json(tmp_path, make_record(items={"self": name}))
        with pytest.raises(StoreError, match="outside the folder of records"):
            read(path)


def test_a_tables_name_is_no_path():
    for name in ("../table/spine", "../model/nano", "/etc/hosts"):
        with pytest.raises(UnknownName, match="no table named"):
            load_spec(conf_dir(), name)


@pytest.mark.parametrize("name", ["../model/nano", "/etc/passwd", "../../../tmp/x"])
@pytest.mark.parametrize("group", ["+recipe", "model", "budget", "suite", "launch", "track"])
def test_a_groups_value_is_no_path(home, capsys, group, name):
    words = [f"{group}={name}"] + (["+recipe=base"] if group != "+recipe" else [])
    assert main(["run", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "Traceback" not in said
    assert not home.exists()


@pytest.mark.parametrize("name", ["..x", "a b", "x;rm -rf"])
def test_a_record_is_a_file_of_its_folder_whatever_the_model_is_called(toy_model, tmp_path, name):
    from polm_bench.config import plan

    folder = shutil.copytree(toy_model, tmp_path / name)
    found = plan(["+recipe=base", f"model.path='{folder}'", "suite=smoke"])
    assert found.record_id.startswith("base-")
    assert "/" not in found.record_id
