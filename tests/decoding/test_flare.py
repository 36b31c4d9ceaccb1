"""Looking ahead: what stays of a draft, what finds passages, and how sure a model is."""

from __future__ import annotations

import pytest
from tests.decoding.test_methods import Documents, asks, job, user

from polm_bench.decoding.flare import Flare, Token, sentences
from polm_bench.decoding.foreseeing import ForeseeingLM
from polm_bench.decoding.method import Question, Way
from polm_bench.models.load import load_model, load_tokenizer

__all__ = ["job"]


def tokens(*told: tuple[str, float]) -> list[Token]:
    return [Token(text, chance) for text, chance in told]


class Drafting:
    """Stands in for a model: `says` maps what it sees and what its answer has begun with to the rest of the answer."""

    def __init__(self, says):
        self.says = says
        self.seen: list[tuple[str, str]] = []

    def drafts(self, chats, like, begun):
        self.seen += [(chat[-1]["content"], start) for chat, start in zip(chats, begun, strict=True)]
        return [self.says(*told) for told in self.seen[-len(chats) :]]


def flare(**numbers) -> Flare:
    told = {
        "count": 1,
        "template": "{passages} {question}",
        "least": 0.1,
        "index": Documents(),
        "sure": 0.8,
        "mask": 0.4,
    }
    return Flare(**told | numbers)


def test_sentences_end_at_points_before_a_blank_and_at_new_lines():
    told = tokens(("It is", 1), (" 3.", 1), ("5", 1), (".", 1), (" Or", 1), (" 4.\n", 1), ("So", 1))
    assert [[one.text for one in part] for part in sentences(told)] == [
        ["It is", " 3.", "5", "."],
        [" Or", " 4.\n"],
        ["So"],
    ]
    assert sentences([]) == []


def test_an_unsure_sentence_is_written_again_with_what_it_finds_and_a_sure_one_stays(job):
    def says(seen, begun):
        if not begun:
            return tokens(
                ("Potatoes", 0.9), (" grow.", 0.9), (" Capital Ecuador:", 0.9), (" Rome.", 0.2), (" Bye.", 0.3)
            )
        return tokens((" Quito", 0.5), (" is it.", 0.9), (" Bye.", 0.9))

    lm = Drafting(says)
    (found,) = flare().way(job).answer(lm, [Question(user("What of Peru's potatoes?"), 16, ())])
    assert found == "Potatoes grow. Quito is it. Bye."
    assert lm.seen[0] == ("Peru grows potatoes. What of Peru's potatoes?", "")
    assert lm.seen[1] == ("Quito is the capital of Ecuador. What of Peru's potatoes?", "Potatoes grow.")
    assert len(lm.seen) == 2  # the sentence that was written again stays, though one of its tokens is unsure


def test_what_finds_nothing_new_stays_as_it_is(job):
    lm = Drafting(lambda seen, begun: tokens(("Hello", 0.1), (" there.", 0.1)))
    assert flare().way(job).answer(lm, asks("Hm?", "What?")) == ["Hello there.", "Hello there."]
    assert len(lm.seen) == 2


@pytest.mark.slow
def test_a_draft_is_the_greedy_answer_and_its_chances_are_the_models(toy_model):
    lm = ForeseeingLM(load_model(toy_model), load_tokenizer(toy_model), 4, 0, lambda *_: None, Way())
    chats, like = [user("One?"), user("Two and three?")], Question([], 6, ())
    drafts = lm.drafts(chats, like, ["", "So"])
    plain = lm.likeliest(chats, like, ["", "So"])
    assert ["".join(token.text for token in draft) for draft in drafts] == plain
    again = lm.drafts([chats[0]], like, [drafts[0][0].text])
    assert all(0 < token.chance < 1 for draft in drafts for token in draft)
    assert again[0][0].chance == pytest.approx(drafts[0][1].chance, rel=1e-3)
    assert len(lm.asked) == 5
