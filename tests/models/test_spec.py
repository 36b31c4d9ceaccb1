"""Every model of conf/model/ is described completely, and planning needs no network once the revision is pinned."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from polm_bench.models import Model

FILES = sorted((Path(__file__).parents[2] / "conf" / "model").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_configured_model_is_named_after_its_file_and_has_a_license(path):
    found = yaml.safe_load(path.read_text())
    assert found.pop("_target_") == "polm_bench.models.Model"
    found.pop("wheel", None)
    model = Model(**found)
    assert model.name == path.stem
    assert path.stem == "path" or model.license != "unknown"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_any_model_takes_another_path_and_a_pinned_revision(path):
    found = {key: value for key, value in yaml.safe_load(path.read_text()).items() if key not in ("_target_", "wheel")}
    stage = Model(**{**found, "path": "owner/name", "revision": "a" * 40}).fetch()
    assert (stage.origin, stage.revision) == ("owner/name", "a" * 40)
