"""A judge behind an address: any server that speaks the chat completions of OpenAI's interface."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import IO, Any
from urllib.parse import urlsplit

from pydantic import Field
from pydantic.dataclasses import dataclass

from polm_bench.errors import BadOverride, Unreachable
from polm_bench.graph import FORBID
from polm_bench.rewards.judge import BothOrders, Judge, count

NAMED = re.compile(r"\b([12])\b")
BUSY = (408, 425, 429, 500, 502, 503, 504)  # worth another try
LONGEST_WAIT = 30.0  # seconds between two tries


@dataclass(frozen=True, config=FORBID)
class EndpointJudge(Judge):
    """A served model that is asked which of two answers is better, once in each order; an answer that names neither counts as a tie.

    The key is read from an environment variable when the judge is asked, and goes nowhere but to that address: it is in no key, record or message.
    Put it into `Cached`, as every question costs.
    """

    url: str  # up to /v1
    model: str
    question: str  # with {prompt}, {first} and {second}; asks for 1 or 2
    revision: str | None = None  # of the served model, where the name alone does not say which it is
    key_env: str = "OPENAI_API_KEY"  # name of the variable; without a value no key is sent
    max_tokens: int = Field(default=8, gt=0)
    timeout: float = Field(default=60.0, gt=0)  # seconds
    tries: int = Field(default=5, ge=1)

    def orders(self, job: Any) -> BothOrders:
        """Raises BadOverride for an address that a key must not be sent to, and Unreachable when the server does not answer."""
        ask = Chat(self)

        def shown(row: Mapping[str, Any], first: str, second: str) -> float:
            text = self.question.format(prompt=row["prompt"][-1]["content"], first=first, second=second)
            reply, tokens = ask(text)
            found = NAMED.search(reply)
            job.ledger.add(tokens_scored=tokens)
            count(job, judgements_unclear=int(found is None))
            return 0.5 if found is None else float(found[1] == "1")

        def compare(
            rows: Sequence[Mapping[str, Any]], firsts: Sequence[str], seconds: Sequence[str]
        ) -> list[tuple[float, float]]:
            return [
                (shown(row, first, second), 1 - shown(row, second, first))
                for row, first, second in zip(rows, firsts, seconds, strict=True)
            ]

        return compare


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A key goes to the address that was named and to no other."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> None:
        return None


class Chat:
    """One question at a time, with another try where the server is busy."""

    def __init__(self, judge: EndpointJudge) -> None:
        self.judge = judge
        self.key = os.environ.get(judge.key_env, "")
        address = urlsplit(judge.url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise BadOverride(f"judge.url={judge.url}: give an address that starts with http:// or https://.")
        if address.username or address.password:
            raise BadOverride(
                "judge.url holds a login, which would be recorded; put a key into the environment instead."
            )
        if self.key and address.scheme == "http" and not _is_here(address.hostname):
            raise BadOverride(
                f"judge.url={judge.url}: {judge.key_env} would be sent in the clear. Use https, or unset the variable."
            )
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if _is_here(address.hostname):
            handlers.append(urllib.request.ProxyHandler({}))
        self.opener = urllib.request.build_opener(*handlers)

    def __call__(self, text: str) -> tuple[str, int]:
        """What the model replies, and the tokens that the server says it took (0 where it does not)."""
        body = {
            "model": self.judge.model,
            "messages": [{"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": self.judge.max_tokens,
        }
        told = self._post(json.dumps(body).encode())
        try:
            reply = str(told["choices"][0]["message"]["content"] or "")
        except (KeyError, IndexError, TypeError):
            raise Unreachable(
                f"the judge at {self.judge.url} answered without choices[0].message.content; is it a chat server?"
            ) from None
        usage = told.get("usage")
        return reply, int(usage.get("total_tokens", 0)) if isinstance(usage, dict) else 0

    def _post(self, body: bytes) -> Any:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        request = urllib.request.Request(f"{self.judge.url.rstrip('/')}/chat/completions", body, headers)
        why = ""
        for turn in range(self.judge.tries):
            if turn:
                time.sleep(min(LONGEST_WAIT, 0.5 * 2 ** (turn - 1)))
            try:
                with self.opener.open(request, timeout=self.judge.timeout) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                why = f"status {error.code}"
                error.close()
                if error.code not in BUSY:
                    break
            except (OSError, ValueError) as error:  # no connection, no answer in time, no JSON
                why = type(error).__name__
        hint = f" Is {self.judge.key_env} set?" if why in ("status 401", "status 403") and not self.key else ""
        raise Unreachable(f"the judge at {self.judge.url} can't be asked ({why}).{hint}")


def _is_here(host: str) -> bool:
    """Whether the address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
