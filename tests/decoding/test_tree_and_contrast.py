"""Trees of answers and answers from several sides: values by hand, and whole runs on a scripted model."""

from __future__ import annotations

import math

import pytest
from tests.decoding.test_methods import PATTERN, Scripted, asks

from polm_bench.decoding.mcts import MctSelfRefine, Node, promising
from polm_bench.decoding.perspectives import SelfContrast


def search(**numbers) -> MctSelfRefine:
    told = {
        "pattern": PATTERN, "critique": "faults?", "refine": "better", "judge": "mark {answer}", "dummy": "no idea", "rollouts": 2,
        "temperature": 0.95, "exploration": 1.4, "children": 3, "full": 95, "suppressed": 50,
    }  # fmt: skip
    return MctSelfRefine(**told | numbers)


def node(marks, parent=None) -> Node:
    made = Node("A", parent)
    made.marks = list(marks)
    if parent is not None:
        parent.children.append(made)
    return made


def test_a_nodes_value_and_bound_by_hand():
    root = node([10.0, 30.0])  # (10 + 20) / 2
    child = node([40.0], root)
    grandchild = node([60.0], child)
    assert (root.own, child.own, grandchild.own) == (15.0, 40.0, 60.0)
    assert child.value == 50.0
    assert root.value == 32.5
    assert root.bound(1.4) == 32.5  # nothing above it was visited
    assert child.bound(1.4) == pytest.approx(50 + 1.4 * math.sqrt(math.log(3) / 1), abs=1e-4)


def test_a_grown_node_gets_no_more_children():
    root = node([50.0])
    worse = [node([mark], root) for mark in (-90.0, -80.0, -70.0)]
    how = search(exploration=0.0)
    assert promising([root, *worse], how) is root  # its value is -10 then, and no child is as good as it: it is open
    assert not root.grown(3)
    best = node([50.0], root)
    assert root.grown(3)
    assert promising([root, *worse, best], how) is best


def test_marks_are_the_last_number_within_the_scale_and_full_ones_are_suppressed():
    marks = [search().mark(text) for text in ("from -100 to 100: 12.5", "-400", "95", "94", "nothing")]
    assert marks == [12.5, -100.0, 50.0, 94.0, 0.0]


def test_a_tree_goes_on_from_what_was_marked_best_and_gives_the_best():
    marks = {"Answer: 1": 10, "no idea": -50, "Answer: 2": 30, "Answer: 3": 60}

    def drawn(content):
        if content.startswith("mark "):
            return [str(marks[content.removeprefix("mark ")])]
        return (
            [f"fault {len(seen)}"]
            if content == "faults?"
            else [f"Answer: {2 + len([s for s in seen if s == 'better'])}"]
        )

    seen: list[str] = []
    lm = Scripted(lambda turns, begun: "Answer: 1" if turns[0] == "Q" else "Hello.", drawn)
    draws = lm.draws
    asked = []

    def watched(chats, like, count, temperature):
        found = draws(chats, like, count, temperature)
        seen.extend(chat[-1]["content"] for chat in chats)
        asked.extend(tuple(turn["content"] for turn in chat) for chat in chats)
        return found

    lm.draws = watched
    assert search().way(None).answer(lm, asks("Q", "Hi")) == ["Answer: 3", "Hello."]
    assert [told[1] for told in asked if told[-1] == "faults?"] == ["Answer: 1", "Answer: 2"]
    assert len(asked) == 2 + 2 * 4
    marks |= {"Answer: 1": 70}
    seen.clear()
    assert search().way(None).answer(lm, asks("Q")) == ["Answer: 1"]


def contrast(**numbers) -> SelfContrast:
    told = {
        "pattern": PATTERN, "plan": "plan {question}", "most": 3, "solve": "{question} by {way}", "contrast": "{question}: {first} or {second}",
        "checklist": "check {differences}", "revise": "{answers} with {checklist}",
    }  # fmt: skip
    return SelfContrast(**told | numbers)


def test_different_answers_are_contrasted_in_pairs_and_written_anew():
    told = {
        "plan Q": "sums\n\ntables\nguessing\nmore",
        "Q by sums": "So Answer: 1",
        "Q by tables": "Answer: 1",
        "Q by guessing": " Answer: 2",
        "Q: So Answer: 1 or Answer: 2": "the sum",
        "check the sum": "look at it",
        "So Answer: 1\nAnswer: 2 with look at it": "Answer: 3",
    }
    lm = Scripted(lambda turns, begun: told.get(turns[-1], "plain"))
    assert contrast().way(None).answer(lm, asks("Q")) == ["Answer: 3"]
    assert [turns[-1] for turns in lm.seen] == ["Q", *told]


def test_ways_that_agree_give_the_first_and_a_single_way_leaves_the_plain_answer():
    told = {
        "plan Q": "a\nb",
        "Q by a": "Answer: 1, I think",
        "Q by b": "Answer: 1",
        "Q": "Answer: 7",
        "plan R": "one",
        "R": "plain",
    }
    lm = Scripted(lambda turns, begun: told[turns[-1]])
    assert contrast().way(None).answer(lm, asks("Q", "R")) == ["Answer: 1, I think", "plain"]
