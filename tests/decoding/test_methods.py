from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from polm_bench.data.source import Rows
from polm_bench.decoding.asking import AskingLM, blend, cut
from polm_bench.decoding.debugging import SelfDebug
from polm_bench.decoding.method import Question, Way, final, said
from polm_bench.decoding.prompting import ChainOfThought, FewShot, LeastToMost, ZeroShotCoT, turns, worked
from polm_bench.decoding.refining import Chained, ChainOfVerification, Refine, Reflexion, ToolCritic, first_fault
from polm_bench.decoding.retrieval import IterRetGen, RagSequence, Read, log_mean, softmax
from polm_bench.decoding.search import build, passages
from polm_bench.decoding.voting import (
    BestOfN,
    SelfConsistency,
    UniversalSelfConsistency,
    named_number,
    voted,
)
from polm_bench.errors import BadOverride
from polm_bench.graph import Stage
from polm_bench.models.load import load_model, load_tokenizer
from polm_bench.rewards import Reward

PATTERN = r"(?:Answer:|####)\s*(-?[\d,]*\d)"


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def asks(*texts: str) -> list[Question]:
    return [Question(user(text), 16, ()) for text in texts]


class Scripted:
    """Stands in for a model: `says` maps a dialogue's turns and what its answer has begun with to the rest of the answer."""

    def __init__(self, says, drawn=None, logprob=None):
        self.says, self.drawn, self.logprob = says, drawn, logprob
        self.seen: list[tuple[str, ...]] = []

    def likeliest(self, chats, like, begun=()):
        found = []
        for i, chat in enumerate(chats):
            turns_ = tuple(turn["content"] for turn in chat)
            self.seen.append(turns_)
            found.append(self.says(turns_, begun[i] if begun else ""))
        return found

    def draws(self, chats, like, count, temperature, top_p=1.0):
        return [self.drawn(chat[-1]["content"])[:count] for chat in chats]

    def logprobs(self, chats, answers, limit):
        return [self.logprob(chat[-1]["content"], answer) for chat, answer in zip(chats, answers, strict=True)]


class Given(Rows):
    def load(self, split):
        return [
            {"prompt": user("2+2?"), "completion": "2+2=4. Answer: 4"},
            {"prompt": user("Hello?"), "completion": "Hi."},
            {"prompt": user("5?"), "completion": "Answer: 5"},
        ]


class Length(Reward):
    def scorer(self, job):
        return lambda rows, answers: [float(len(answer)) for answer in answers]


class Documents(Stage):
    pass


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    pytest.importorskip("bm25s")
    folder = tmp_path_factory.mktemp("index")
    texts = [
        "Lima is the capital of Peru.",
        "Quito is the capital of Ecuador.",
        "Peru grows potatoes.",
        "Nothing here.",
    ]
    build(texts, folder, 0.9, 0.4)
    return SimpleNamespace(path=lambda stage: folder)


def test_the_last_final_answer_counts_without_its_commas():
    assert final(PATTERN, "Answer: 3 or Answer: 1,200") == "1200"
    assert final(PATTERN, "#### -7") == "-7"
    assert final(PATTERN, "I do not know.") is None


def test_text_is_cut_at_the_first_stop():
    assert cut("one\ntwo STOP three", ("STOP", "\n")) == "one"


def test_a_shown_example_is_a_turn_of_each_side():
    way = FewShot(Given("sft"), shots=3).way(None)
    shown = way.show(user("Q"))
    assert [turn["role"] for turn in shown] == ["user", "assistant"] * 3 + ["user"]
    assert shown[-1] == user("Q")[0]
    assert turns(Given("sft").load("train"))[1]["content"] == "2+2=4. Answer: 4"


def test_examples_are_a_seeds_own():
    shown = [FewShot(Given("sft"), shots=1, seed=seed).way(None).show([])[0]["content"] for seed in range(8)]
    assert len(set(shown)) > 1
    assert shown == [FewShot(Given("sft"), shots=1, seed=seed).way(None).show([])[0]["content"] for seed in range(8)]


def test_chain_of_thought_shows_worked_examples_and_only_where_there_is_a_final_answer():
    assert worked("2+2=4. Answer: 4", PATTERN)
    assert not worked("Answer: 5", PATTERN)
    lm = Scripted(lambda turns_, begun: "fine" if turns_[-1] == "chat" else f"Answer: {len(turns_)}")
    found = ChainOfThought(Given("sft"), shots=8, pattern=PATTERN).way(None).answer(lm, asks("chat", "sum"))
    assert found == ["fine", "Answer: 3"]  # one worked example: its two turns, and the question
    assert lm.seen[-1] == ("2+2?", "2+2=4. Answer: 4", "sum")


def test_zero_shot_steps_come_first_and_the_final_answer_is_asked_for_only_where_it_is_missing():
    def says(turns_, begun):
        if not begun:
            return "Answer: 1" if turns_[-1] != "chat" else "fine"
        if begun.endswith("So:"):
            return " Answer: 9"
        return " easy. Answer: 2" if turns_[-1] == "easy" else " hard."

    way = ZeroShotCoT(think="Think.", therefore="So:", pattern=PATTERN).way(None)
    found = way.answer(Scripted(says), asks("chat", "easy", "hard"))
    assert found == ["fine", "Think. easy. Answer: 2", "Think. hard. So: Answer: 9"]


def test_least_to_most_asks_the_parts_one_after_another_and_the_question_last():
    def says(turns_, begun):
        if turns_[-1].endswith("split"):
            return "first part\n\nsecond part\nthird part"
        return f"Answer: {len(turns_)}"

    lm = Scripted(says)
    assert LeastToMost(split="split", parts=2, pattern=PATTERN).way(None).answer(lm, asks("Q")) == ["Answer: 5"]
    assert lm.seen[-1] == ("Q\nfirst part", "Answer: 1", "Q\nsecond part", "Answer: 3", "Q")


def test_the_most_votes_win_and_the_first_of_their_answers_is_given_back():
    drawn = ["a Answer: 1", "b Answer: 2", "none", "c Answer: 2"]
    lm = Scripted(lambda turns_, begun: "Answer: 7" if turns_[-1] == "sum" else "fine", lambda _: drawn)
    way = SelfConsistency(pattern=PATTERN, count=4, temperature=0.7).way(None)
    assert way.answer(lm, asks("sum", "chat")) == ["b Answer: 2", "fine"]
    assert voted(["1", "2", "2", "1"], [1, 1, 1, 1]) == 0  # as many: the first drawn
    assert voted([None, None], [1, 1]) is None


def test_weighted_votes_follow_the_likelihood_per_token():
    drawn = ["a Answer: 1", "b Answer: 2", "c Answer: 2"]
    lm = Scripted(
        lambda *_: "Answer: 7", lambda _: drawn, lambda _, answer: (-0.1, 1) if answer[0] == "a" else (-6.0, 2)
    )
    way = SelfConsistency(pattern=PATTERN, count=3, temperature=0.7, weight="normalized").way(None)
    assert way.answer(lm, asks("sum")) == ["a Answer: 1"]  # e^-0.1 against twice e^-3


def test_the_model_may_choose_among_its_answers():
    lm = Scripted(lambda turns_, begun: "I take 2." if "1. x\n2. y" in turns_[-1] else "?", lambda _: ["x", "y"])
    way = UniversalSelfConsistency(count=2, temperature=1.0, choose="{question}: {answers}").way(None)
    assert way.answer(lm, asks("Q")) == ["y"]
    assert named_number("17 or 3", 4) == 3
    assert named_number("none", 4) == 1


def test_the_best_of_n_is_what_the_reward_likes_best():
    lm = Scripted(None, lambda text: ["a", "abc", "ab"] if text == "Q" else ["abcd", "a", "b"])
    way = BestOfN(reward=Length(), count=3, temperature=1.0).way(None)
    assert way.answer(lm, asks("Q", "R")) == ["abc", "abcd"]


def test_self_refine_keeps_its_history_and_stops_where_nothing_is_wrong():
    def says(turns_, begun):
        if turns_[-1] == "faults?":
            return "nothing" if "A9" in turns_ else "bad"
        return f"A{len(turns_)}"

    lm = Scripted(says)
    way = Refine(feedback="faults?", refine="again", rounds=4, history=True, enough="nothing").way(None)
    assert way.answer(lm, asks("Q")) == ["A9"]
    assert lm.seen[-1] == ("Q", "A1", "faults?", "bad", "again", "A5", "faults?", "bad", "again", "A9", "faults?")


def test_an_answer_is_debugged_until_it_passes_what_its_question_states():
    said_ = {
        1: "One two three.",
        3: "One two.",
        5: "ONE TWO!",
    }
    lm = Scripted(lambda turns_, begun: said_[len(turns_)] if "words" in turns_[0] else "anything")
    way = SelfDebug(feedback="fails: {failed}", turns=2).way(None)
    asked = "Write exactly 2 words about the cat in capital letters."
    assert way.answer(lm, asks(asked, "How are you?")) == ["ONE TWO!", "anything"]
    assert lm.seen[2:] == [
        (asked, "One two three.", "fails: words 2, case upper"),
        (asked, "One two three.", "fails: words 2, case upper", "One two.", "fails: case upper"),
    ]
    assert SelfDebug(feedback="{failed}", turns=1).way(None).answer(lm, asks(asked)) == ["One two."]


def test_of_a_chain_the_last_revision_that_has_feedback_is_given():
    chains = {
        "none": "plain",
        "one": "bad\nFeedback: 1 of 5.",
        "two": "bad\nFeedback: 1 of 5.\nRevision: fair\nFeedback: 3 of 5.\nRevision: good\nFeedback: 5 of 5.",
        "cut": "bad\nFeedback: 1 of 5.\nRevision: fair\nFeedback: 3 of 5.\nRevision: go",
    }
    lm = Scripted(lambda turns_, begun: chains[turns_[-1]])
    lm.max_length = 512
    way = Chained(feedback="\nFeedback: {points} of 5.", revision="\nRevision: ", revisions=3).way(None)
    assert way.answer(lm, asks(*chains)) == ["plain", "bad", "good", "fair"]


def test_rci_sees_the_last_answer_alone():
    lm = Scripted(lambda turns_, begun: "bad" if turns_[-1] == "faults?" else f"A{len(lm.seen)}")
    found = Refine(feedback="faults?", refine="again", rounds=2, history=False).way(None).answer(lm, asks("Q"))
    assert lm.seen == [
        ("Q",),
        ("Q", "A1", "faults?"),
        ("Q", "A1", "faults?", "bad", "again"),
        ("Q", "A3", "faults?"),
        ("Q", "A3", "faults?", "bad", "again"),
    ]
    assert found == ["A5"]


@pytest.mark.parametrize(
    ("answer", "corrected"),
    [
        ("3+4=7. 7*2=14.", None),
        ("3+4=8. 8*2=16.", "3+4=7"),
        ("3+4=7. 7-9=2.", "7-9=-2"),
        ("7/2=3", None),
        ("no sum", None),
        ("2+3+4=9. 10 - 3 - 2 = 5. 10 -3-2=5. -3+4=1.", None),
        ("2+3+4=8. 3+4=8.", "3+4=7"),
        ("0.5*10=5. 1,000+5=1005. 5*1000=5,000. 4*2=8.0", None),
    ],
)
def test_the_first_wrong_equation_is_found(answer, corrected):
    fault = first_fault(answer)
    assert (fault and fault.corrected) == corrected


def test_critic_goes_on_after_the_corrected_equation():
    def says(turns_, begun):
        return {"": "3+4=8. 8*2=16. Answer: 16", "3+4=7": ". 7*2=15. Answer: 15", "3+4=7. 7*2=14": ". Answer: 14"}[
            begun
        ]

    assert ToolCritic(rounds=4).way(None).answer(Scripted(says), asks("Q")) == ["3+4=7. 7*2=14. Answer: 14"]
    assert ToolCritic(rounds=1).way(None).answer(Scripted(says), asks("Q")) == ["3+4=7. 7*2=15. Answer: 15"]


def test_reflexion_tries_again_with_its_notes():
    def says(turns_, begun):
        if turns_[-1] == "why?":
            return f"note {len([t for t in lm.seen if t[-1] == 'why?'])}"
        return "3+4=7" if "note 2" in turns_[-1] else "3+4=8"

    lm = Scripted(says)
    method = Reflexion(reflect="why?", remember="{notes}|{question}", trials=4, memory=1)
    assert method.way(None).answer(lm, asks("Q")) == ["3+4=7"]
    assert lm.seen[-1] == ("note 2|Q",)


def test_verification_answers_its_questions_without_the_draft():
    def says(turns_, begun):
        if turns_[-1] == "plan":
            return "Is it?\nWhy?\nWhen?"
        return {"Q": "draft", "Is it?": "no", "Why?": "so"}.get(turns_[-1], "final")

    lm = Scripted(says)
    method = ChainOfVerification(plan="plan", most=2, revise="{question}|{draft}|{checks}")
    assert method.way(None).answer(lm, asks("Q")) == ["final"]
    assert lm.seen[2:] == [("Is it?",), ("Why?",), ("Q|draft|Is it? no\nWhy? so",)]


def test_a_passage_stands_before_the_question_and_a_poor_one_does_not(job):
    method = Read(count=1, template="{passages} // {question}", least=0.5, index=Documents())
    show = method.way(job).show
    assert show(user("The capital of Ecuador?"))[-1]["content"].startswith("Quito is the capital of Ecuador. //")
    assert show(user("Why so?")) == user("Why so?")
    assert Read(count=1, template="{passages}", least=99.0, index=Documents()).way(job).show(user("Peru?")) == user(
        "Peru?"
    )


def test_the_best_passage_stands_next_to_the_question(job):
    method = Read(count=2, template="{passages} // {question}", least=0.0, index=Documents())
    text = method.way(job).show(user("What is the capital of Peru?"))[-1]["content"]
    assert text.endswith("Lima is the capital of Peru. // What is the capital of Peru?")
    assert len(text.split(".")) == 3  # another passage stands before it


def test_passages_that_fit_less_come_along_with_one_that_fits(job):
    least = Read(count=1, template="", least=0.0, index=Documents()).opened(job).find("capital of Peru")[0].score
    method = Read(count=3, template="{passages}", least=least, index=Documents())
    assert len(method.opened(job).find("capital of Peru")) == 3
    assert method.opened(job).find("capital") == []


def test_the_draft_finds_the_next_passage(job):
    lm = Scripted(lambda turns_, begun: "Ecuador, Quito" if "potatoes" in turns_[-1] else turns_[-1])
    method = IterRetGen(count=1, template="{passages}", least=0.1, index=Documents(), rounds=2)
    assert method.way(job).answer(lm, asks("Who grows potatoes?")) == ["Quito is the capital of Ecuador."]


def test_an_answer_is_weighed_over_all_passages(job):
    def logprob(asked, answer):
        first = "Lima" in asked
        return (math.log({("A", True): 0.6, ("A", False): 0.1, ("B", True): 0.5, ("B", False): 0.9}[answer, first]), 1)

    lm = Scripted(lambda turns_, begun: "A" if "Lima" in turns_[-1] else "B", logprob=logprob)
    method = RagSequence(count=2, template="{passages}", least=0.0, index=Documents())
    shelf = method.opened(job)
    weights = softmax([passage.score for passage in shelf.find("capital of Peru")])
    a, b = weights[0] * 0.6 + weights[1] * 0.1, weights[0] * 0.5 + weights[1] * 0.9
    assert method.way(job).answer(lm, asks("capital of Peru")) == ["A" if a > b else "B"]
    assert log_mean([math.log(0.2), math.log(0.4)], [0.75, 0.25]) == pytest.approx(math.log(0.25))


def test_rows_of_a_group_take_the_token_that_their_mean_prefers():
    chances = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.4, 0.5], [0.2, 0.2, 0.6]])
    choose = blend([0, 0, 1], [0.25, 0.75, 1.0], torch.device("cpu"))
    assert choose(chances.log(), torch.tensor([0, 1, 2]), 0).tolist() == [2, 2, 2]  # 0.225, 0.375, 0.4
    even = blend([0, 0, 1], [0.5, 0.5, 1.0], torch.device("cpu"))
    assert even(chances.log()[2:], torch.tensor([2]), 1).tolist() == [2]  # the others have left the batch


def test_documents_are_cut_into_passages():
    assert passages("a b c d e", 2) == ["a b", "c d", "e"]


@pytest.fixture(scope="module")
def lm(toy_model):
    return AskingLM(load_model(toy_model), load_tokenizer(toy_model), 4, 0, lambda *_: None, Way())


def test_a_blend_of_one_dialogue_is_its_greedy_answer(lm):
    texts = ["What is 2+2?", "Write about the sea.", "And the capital of Peru?"]
    like = Question(user(""), 8, ())
    plain = lm.likeliest([user(text) for text in texts], like)
    assert lm.blended([[user(text)] for text in texts], [[1.0]] * 3, like) == plain
    assert lm.blended([[user(text), user(text)] for text in texts], [[0.5, 0.5]] * 3, like) == plain


def test_a_blend_writes_no_further_than_a_stop_text(lm):
    asked, like = user("What is 2+2?"), Question(user(""), 8, ())
    until = lm.likeliest([asked], like)[0][:2]
    short, before = like._replace(until=(until,)), len(lm.answered)
    assert lm.blended([[asked, asked]], [[0.5, 0.5]], short) == lm.likeliest([asked], short) == [""]
    blended, again, plain = lm.answered[before:]
    assert blended == again == plain < 8


def test_what_an_answer_begins_with_is_read_and_not_written(lm):
    like = Question(user(""), 8, ())
    whole = lm.likeliest([user("Hello?")], like)[0]
    ids = lm.tokenizer(whole, add_special_tokens=False)["input_ids"]
    start = lm.tokenizer.decode(ids[:2])
    if lm.tokenizer(start, add_special_tokens=False)["input_ids"] == ids[:2]:
        rest = lm.likeliest([user("Hello?")], like._replace(limit=6), [start])[0]
        assert (start + rest)[: len(whole)] == whole


def test_every_token_is_counted(lm):
    asked, answered, read = len(lm.asked), len(lm.answered), len(lm.read)
    drawn = lm.draws([user("A?"), user("B?")], Question(user(""), 5, ()), 3, 1.0)
    assert [len(answers) for answers in drawn] == [3, 3]
    assert len(lm.asked) - asked == len(lm.answered) - answered == 6
    assert all(0 < tokens <= 5 for tokens in lm.answered[answered:])
    values = lm.logprobs([user("A?")], ["yes"], 5)
    assert len(lm.read) - read == 1
    assert values[0][0] < 0
    again = lm.draws([user("A?"), user("B?")], Question(user(""), 5, ()), 3, 1.0)
    assert again != drawn


def test_a_suite_without_a_chat_template_is_refused(lm):
    request = SimpleNamespace(args=("plain text", {"until": [], "max_gen_toks": 4}))
    with pytest.raises(BadOverride, match=r"suite\.chat=false"):
        lm.generate_until([request])


def test_a_question_is_answered_in_its_way_and_counted_once(toy_model):
    class Twice(Way):
        def answer(self, lm, questions):
            lm.likeliest([question.chat for question in questions], questions[0])
            return [said(question.chat, "a", "b")[0]["content"] for question in questions]

    lm = AskingLM(load_model(toy_model), load_tokenizer(toy_model), 4, 0, lambda *_: None, Twice())
    contexts = [lm.apply_chat_template(user(text)) for text in ("one", "two", "three")]
    requests = [
        SimpleNamespace(args=(text, {"until": [], "max_gen_toks": n}))
        for text, n in zip(contexts, (4, 6, 4), strict=True)
    ]
    assert lm.generate_until(requests) == ["one", "two", "three"]
    assert lm.questions == 3
    assert len(lm.answered) == 3
