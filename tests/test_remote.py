"""A hub that is down, busy, breaks off or sends something else: said clearly, asked again where that helps, resumed, never served half."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from polm_bench import remote
from polm_bench.errors import Unreachable
from polm_bench.remote import hub_commit, hub_snapshot

REPO, COMMIT = "someone/some-model", "c" * 40
FILES = {"config.json": b'{"model_type": "llama"}', "model.safetensors": bytes(range(256)) * 4000}
PATTERNS = ("*.json", "*.safetensors")


class Hub(BaseHTTPRequestHandler):
    """The few answers of a model hub that a snapshot needs, with faults that the server is told of."""

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        place = self.path.partition("?")[0]
        self.server.asked.append((self.command, place, self.headers.get("Range")))
        if self.server.busy > 0:
            self.server.busy -= 1
            return self.send_error(503)
        if place.endswith("/tree/" + COMMIT):
            return self.send(json.dumps([entry(name, content) for name, content in FILES.items()]).encode())
        if place == f"/{REPO}/resolve/{COMMIT}/{place.rpartition('/')[2]}":
            return self.send_file(place.rpartition("/")[2], with_body)
        if place.startswith(f"/api/models/{REPO}"):
            return self.send(json.dumps({"id": REPO, "sha": COMMIT, "siblings": []}).encode())
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        return self.end_headers()

    def send_file(self, name: str, with_body: bool) -> None:
        content = FILES[name]
        start = int(self.headers["Range"][6:].split("-")[0]) if self.headers.get("Range") else 0
        self.send_response(206 if start else 200)
        told = {"ETag": f'"{etag(name)}"', "X-Repo-Commit": COMMIT, "Content-Length": str(len(content) - start)}
        if start:
            told["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        for header, value in told.items():
            self.send_header(header, value)
        self.end_headers()
        if not with_body:
            return
        body = content[start:]
        if name.endswith(".safetensors") and self.server.breaks > 0:
            self.server.breaks -= 1
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        if name.endswith(".safetensors") and self.server.spoils > 0:
            self.server.spoils -= 1
            body = b"!" + body[1:]
        self.wfile.write(body)

    def send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


def etag(name: str) -> str:
    """As the hub names a file: a large one by its SHA-256, another as git does."""
    content = FILES[name]
    if name.endswith(".safetensors"):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def entry(name: str, content: bytes) -> dict:
    told = {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
    if name.endswith(".safetensors"):
        return told | {"lfs": {"oid": etag(name), "size": len(content), "pointerSize": 130}}
    return told | {"oid": etag(name)}


def point_to(address: str, monkeypatch) -> None:
    """What HF_ENDPOINT does, which is read when the library is imported."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE
    path = template[template.index("/{repo_id}") :]
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + path)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked, server.busy, server.breaks, server.spoils = [], 0, 0, 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    point_to(f"http://127.0.0.1:{server.server_port}", monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "WAITS", (0.05, 0.1))
    monkeypatch.setenv("POLM_CACHE", str(tmp_path / "own"))
    hub_commit.cache_clear()
    yield server
    server.shutdown()
    server.server_close()
    hub_commit.cache_clear()


def whole(folder: Path) -> bool:
    return {path.name: path.read_bytes() for path in folder.iterdir()} == FILES


def test_a_busy_hub_is_asked_again(hub, caplog):
    hub.busy = 2
    assert hub_commit(REPO, None, "model") == COMMIT
    assert len(hub.asked) == 3
    assert f"{REPO} is not here yet" in caplog.text
    assert whole(hub_snapshot(REPO, COMMIT, "model", PATTERNS))


def test_what_the_hub_has_not_is_asked_for_once(hub):
    with pytest.raises(Unreachable, match="the hub has no model someone/other at revision main"):
        hub_commit("someone/other", None, "model")
    assert len(hub.asked) == 1


def test_half_a_download_goes_on_where_it_broke_off(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 64_000)  # what is written at a time
    hub.breaks = 1
    assert whole(hub_snapshot(REPO, COMMIT, "model", PATTERNS))
    sent = [range_ for method, place, range_ in hub.asked if method == "GET" and place.endswith(".safetensors")]
    assert sent == [None, f"bytes={len(FILES['model.safetensors']) // 2}-"]


def test_a_wrong_checksum_is_fetched_again_and_never_served(hub):
    hub.spoils = 1
    assert whole(hub_snapshot(REPO, COMMIT, "model", PATTERNS))


def test_a_hub_that_always_sends_something_else_is_named(hub, tmp_path):
    hub.spoils = 99
    with pytest.raises(Unreachable, match=r"model\.safetensors came with a checksum that is not the hub's"):
        hub_snapshot(REPO, COMMIT, "model", PATTERNS)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_a_damaged_file_in_the_cache_is_fetched_again(hub):
    folder = hub_snapshot(REPO, COMMIT, "model", PATTERNS)
    (folder / "model.safetensors").resolve().write_bytes(FILES["model.safetensors"][:-1] + b"!")
    assert whole(hub_snapshot(REPO, COMMIT, "model", PATTERNS))


def test_what_is_whole_in_the_cache_needs_no_hub_and_what_is_half_there_is_not_served(hub, monkeypatch):
    from huggingface_hub import constants

    folder = hub_snapshot(REPO, COMMIT, "model", PATTERNS)
    assert hub_commit(REPO, None, "model") == COMMIT
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub_snapshot(REPO, COMMIT, "model", PATTERNS) == folder
    (folder / "model.safetensors").resolve().unlink()
    (folder / "model.safetensors").unlink()
    with pytest.raises(Unreachable, match=f"model {REPO} at revision {COMMIT} is needed, and neither the hub nor the"):
        hub_snapshot(REPO, COMMIT, "model", PATTERNS)


def test_a_hub_that_nobody_answers_for_is_said_with_its_reason(hub, monkeypatch):
    point_to("http://127.0.0.1:1", monkeypatch)
    with pytest.raises(Unreachable, match=r"neither the hub nor the cache has it: .*refused.* Connect once"):
        hub_commit(REPO, None, "model")
