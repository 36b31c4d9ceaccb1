"""Judges: both orders, verdicts kept by content, an endpoint on the loopback, and rates with the judge's noise in them."""

from __future__ import annotations

import json
import math
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from pydantic.dataclasses import dataclass

from polm_bench.errors import BadOverride, Unreachable
from polm_bench.graph import FORBID
from polm_bench.rewards.cached import Cached
from polm_bench.rewards.endpoint import EndpointJudge
from polm_bench.rewards.judge import Judge
from polm_bench.rewards.noise import Rate, corrected, trust
from polm_bench.run.job import Job
from polm_bench.run.launch import Launch

SECRET = "sk-not-a-real-key"
QUESTION = "{prompt}\n1: {first}\n2: {second}"
ROWS = [{"prompt": [{"role": "user", "content": "How was it?"}]}]


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path, tmp_path, {}, Launch("inline"), "cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("POLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "judgements"


@dataclass(frozen=True, config=FORBID)
class LongerFirst(Judge):
    """Prefers the longer answer, and the first one by a quarter more."""

    lean: float = 0.25

    def orders(self, job):
        def compare(rows, firsts, seconds):
            longer = [float(len(one) > len(two)) for one, two in zip(firsts, seconds, strict=True)]
            return [(min(1.0, share + self.lean), max(0.0, share - self.lean)) for share in longer]

        return compare


class Server:
    """Chat completions: prefers the answer with an exclamation mark, the first of two alike; says what `script` says first."""

    def __init__(self, script=()):
        self.script, self.seen = list(script), []
        told = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                told.seen.append((self.path, self.headers.get("Authorization"), body))
                status = told.script.pop(0) if told.script else 200
                if status == 302:
                    self.send_response(302)
                    self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                    self.end_headers()
                    return
                if isinstance(status, str):
                    reply, status = status, 200
                else:
                    lines = body["messages"][0]["content"].splitlines()
                    reply = "Answer 2." if "!" in lines[2] and "!" not in lines[1] else "1"
                content = {"choices": [{"message": {"content": reply}}], "usage": {"total_tokens": 7}}
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(content).encode())

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def serve():
    made = []

    def start(*script):
        made.append(Server(script))
        return made[-1]

    yield start
    for server in made:
        server.http.shutdown()
        server.http.server_close()


def ask(judge, job, first="Good!", second="Good."):
    return judge.orders(job)(ROWS, [first], [second])


def test_an_endpoint_is_asked_once_in_each_order(serve, job):
    server = serve()
    judge = EndpointJudge(server.url, "small", QUESTION)
    assert ask(judge, job) == [(1.0, 1.0)]
    assert ask(judge, job, "Fine.", "Well.") == [(1.0, 0.0)]  # it leans to the first: one verdict each way
    assert judge.comparer(job)(ROWS, ["Fine."], ["Well."]) == [0.5]
    path, _, body = server.seen[0]
    assert path == "/v1/chat/completions"
    assert body["model"] == "small"
    assert body["temperature"] == 0
    assert body["messages"] == [{"role": "user", "content": "How was it?\n1: Good!\n2: Good."}]
    assert job.ledger.amounts["tokens_scored"] == 6 * 7


def test_a_reply_that_names_neither_counts_as_a_tie(serve, job):
    judge = EndpointJudge(serve("Both are fine.", "12").url, "small", QUESTION)
    assert ask(judge, job) == [(0.5, 0.5)]
    assert job.ledger.notes["judgements_unclear"] == 2


def test_the_key_goes_to_the_server_and_nowhere_else(serve, job, monkeypatch, cache):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    server = serve()
    judge = Cached(EndpointJudge(server.url, "small", QUESTION))
    ask(judge, job)
    assert {key for _, key, _ in server.seen} == {f"Bearer {SECRET}"}
    from polm_bench.graph import identity

    written = [path.read_text() for path in cache.rglob("*.json")]
    assert SECRET not in json.dumps([identity(judge), job.ledger.to_dict(), written])


def test_a_key_is_not_sent_in_the_clear_and_a_login_is_not_taken(job, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with pytest.raises(BadOverride, match="in the clear") as error:
        EndpointJudge("http://judge.example/v1", "small", QUESTION).orders(job)
    assert SECRET not in str(error.value)
    with pytest.raises(BadOverride, match="holds a login"):
        EndpointJudge("https://me:secret@judge.example/v1", "small", QUESTION).orders(job)
    with pytest.raises(BadOverride, match="https://"):
        EndpointJudge("judge.example", "small", QUESTION).orders(job)


def test_a_redirect_is_not_followed_as_the_key_would_go_along(serve, job, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with pytest.raises(Unreachable, match="status 302"):
        ask(EndpointJudge(serve(302).url, "small", QUESTION), job)


def test_a_busy_server_is_asked_again_and_a_refusal_is_told(serve, job, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    busy = serve(503, 429)
    assert ask(EndpointJudge(busy.url, "small", QUESTION), job) == [(1.0, 1.0)]
    assert len(busy.seen) == 4
    with pytest.raises(Unreachable, match=r"status 401.*Is OPENAI_API_KEY set"):
        ask(EndpointJudge(serve(401).url, "small", QUESTION), job)
    with pytest.raises(Unreachable, match="can't be asked"):
        ask(EndpointJudge("http://127.0.0.1:9/v1", "small", QUESTION, tries=1), job)


def test_a_verdict_is_asked_for_once_and_kept_by_content(serve, job):
    server = serve()
    judge = Cached(EndpointJudge(server.url, "small", QUESTION), at_once=1)
    first = judge.orders(job)(ROWS * 3, ["Good!", "Good!", "Fine!"], ["Good.", "Good.", "Fine."])
    assert first == [(1.0, 1.0)] * 3
    assert len(server.seen) == 4  # two questions, each in both orders
    server.http.shutdown()
    again = judge.orders(job)(ROWS, ["Fine!"], ["Fine."])
    assert again == [(1.0, 1.0)]
    assert job.ledger.notes == {"judgements_unclear": 0, "judgements_asked": 2, "judgements_cached": 2}


def test_another_judge_or_answer_is_another_verdict(job, cache):
    compare = Cached(LongerFirst()).orders(job)
    assert compare(ROWS, ["aa"], ["a"]) == [(1.0, 0.75)]
    assert compare(ROWS, ["a"], ["aa"]) == [(0.25, 0.0)]
    assert Cached(LongerFirst(0.5)).orders(job)(ROWS, ["a"], ["aa"]) == [(0.5, 0.0)]
    assert len(list(cache.rglob("*.json"))) == 3


def test_a_verdict_that_was_cut_short_is_asked_for_again(job, cache):
    compare = Cached(LongerFirst()).orders(job)
    compare(ROWS, ["aa"], ["a"])
    (place,) = cache.rglob("*.json")
    place.write_text("[1.0")
    assert compare(ROWS, ["aa"], ["a"]) == [(1.0, 0.75)]
    assert json.loads(place.read_text()) == [1.0, 0.75]


def test_trust_tells_agreement_and_how_often_the_order_decides(job):
    pairs = [{**ROWS[0], "chosen": "aaa", "rejected": "a"}, {**ROWS[0], "chosen": "a", "rejected": "aaa"}]
    steady = trust(LongerFirst(0.0).orders(job), pairs)
    assert steady.agreement == [1.0, 0.0]
    assert steady.flips == [0.0, 0.0]
    leaning = trust(LongerFirst(0.75).orders(job), pairs)
    assert leaning.flips == [1.0, 1.0]


def test_a_perfect_judge_changes_nothing_and_a_coin_says_nothing():
    assert corrected(Rate(0.7, 0.02), 1.0, 100) == pytest.approx((0.7, 0.02))
    assert corrected(Rate(0.7, 0.02), 0.5, 100) is None


def test_a_noisy_judge_pulls_a_rate_to_the_middle_and_widens_its_interval():
    found = corrected(Rate(0.6, 0.02), 0.75, 300)
    assert found.value == pytest.approx(0.7)
    assert found.stderr == pytest.approx(math.sqrt(0.02**2 + 0.4**2 * 0.75 * 0.25 / 300) / 0.5)


def test_its_interval_holds_the_true_rate_as_often_as_it_says():
    random, held, true, agree = np.random.default_rng(0), 0, 0.65, 0.8
    for _ in range(2000):
        won = random.random(400) < true
        told = np.where(random.random(400) < agree, won, ~won).mean()
        known = (random.random(300) < agree).mean()
        found = corrected(Rate(told, math.sqrt(told * (1 - told) / 400)), known, 300)
        held += abs(found.value - true) <= 1.96 * found.stderr
    assert 0.935 < held / 2000 < 0.965
