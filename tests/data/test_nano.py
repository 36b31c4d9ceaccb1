"""The nano world: the same rows everywhere, splits without common entities, test items that training never saw."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import statistics
from collections.abc import Iterator

import pytest

from polm_bench.data import nano
from polm_bench.data.nano import arithmetic, countries, entities, instructions, refusals, sentiment, skills, text
from polm_bench.data.nano.items import generator
from polm_bench.data.nano.source import Nano, NanoPretraining, NanoRows
from polm_bench.data.roles import ROLES, check_rows
from polm_bench.errors import BadData
from polm_bench.graph import identity

GOLDEN = {2: "6d4e7a2c30c1d3fe"}
"""Rows and test items by version. A changed hash means others: raise `nano.VERSION` (and tasks/_base.yaml), add the new hash."""

GOLDEN_TEXT = {("first", 2): "617c3fbfddedef5f", ("main", 2): "d52443b0b626ba82", ("last", 3): "1b5b78b0a1fad71f"}
"""Pretraining text by phase and edition. A changed hash means other text: raise the phase's edition and train the model anew, add the new hash."""

POOLS = [
    entities.WOMEN,
    entities.MEN,
    entities.THINGS,
    entities.TOPICS,
    entities.WORDS,
    entities.VERBS,
    entities.PLACES,
    entities.TITLES,
    entities.COLOURS,
]


def digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def test_rows_change_only_with_the_version() -> None:
    parts = [nano.rows(role, split) for role in nano.roles() for split in ("train", "validation")]
    parts += [[list(item) for item in nano.test_items(task)] for task in nano.TEST_SIZES]
    assert digest(parts) == GOLDEN[nano.VERSION]


@pytest.mark.parametrize("phase", text.MIXES)
def test_the_pretraining_text_of_a_phase_changes_only_with_its_edition(phase) -> None:
    assert (
        digest(list(itertools.islice(nano.pretraining_documents(0, phase), 2000)))
        == GOLDEN_TEXT[phase, text.EDITIONS[phase]]
    )


def test_rows_are_the_same_every_time() -> None:
    assert nano.rows("sft", "train") == nano.rows("sft", "train")
    assert nano.test_items("arithmetic") == nano.test_items("arithmetic")


def test_there_is_every_role_but_that_of_peoples_ratings() -> None:
    assert set(nano.roles()) == set(ROLES) - {"rated"}


@pytest.mark.parametrize("role", sorted(nano.roles()))
@pytest.mark.parametrize("split", ["train", "validation"])
def test_every_row_of_a_role_is_in_the_normal_form(role: str, split: str) -> None:
    made = nano.rows(role, split)  # type: ignore[arg-type]
    assert check_rows(role, made, role) == made


def test_the_test_split_has_no_rows() -> None:
    with pytest.raises(ValueError, match="validation"):
        nano.rows("sft", "test")


@pytest.mark.parametrize("task", sorted(nano.TEST_SIZES))
def test_a_task_has_at_least_500_different_items(task: str) -> None:
    assert len({item.prompt for item in nano.test_items(task)}) >= 500


def test_the_source_knows_its_roles_and_its_rows_carry_the_edition() -> None:
    source = Nano("nano")
    assert "preference" in source.roles()
    assert identity(source.role("sft")) == {"class": "NanoRows", "role": "sft", "edition": nano.VERSION}
    assert NanoRows("documents", nano.VERSION).load("validation")[0]["id"] in countries.countries("validation")
    with pytest.raises(BadData, match="It has: corpus"):
        source.role("images")


def test_the_validation_text_of_pretraining_is_another_text() -> None:
    rows = NanoPretraining("corpus", nano.VERSION, seed=0, documents=200)
    assert len(rows.load("train")) == 200
    assert len(rows.load("validation")) == 2
    assert rows.load("validation")[0] not in rows.load("train")


def test_splits_share_no_entity() -> None:
    words = {split: [word for pool in POOLS for word in pool[split]] for split in entities.SPLITS}
    for one, other in itertools.combinations(entities.SPLITS, 2):
        assert not set(words[one]) & set(words[other])
        assert not set(countries.countries(one)) & set(countries.countries(other))


def test_numbers_of_the_skills_share_no_question_between_splits() -> None:
    rng = generator("disjoint")
    for make in (skills.sort, skills.series):
        asked = {split: [make(rng, split) for _ in range(3000)] for split in entities.SPLITS}
        questions = {split: {(item.prompt, item.answer) for item in items} for split, items in asked.items()}
        for one, other in itertools.combinations(entities.SPLITS, 2):
            assert not questions[one] & questions[other]


@pytest.fixture(scope="module")
def training() -> set[str]:
    """Every text of every role, and a part of the pretraining text."""
    return set(_training_texts())


def _training_texts() -> Iterator[str]:
    for role in nano.roles():
        for split in ("train", "validation"):
            for row in nano.rows(role, split):
                yield from _texts(row)
    yield from itertools.islice(nano.pretraining_documents(0), 30_000)
    yield from itertools.islice(nano.pretraining_documents(0, "first"), 5_000)
    yield from itertools.islice(nano.pretraining_documents(0, "last"), 15_000)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def test_no_test_prompt_occurs_in_any_training_text(training: set[str]) -> None:
    prompts: dict[tuple[str, ...], list[str]] = {}
    for item in (item for task in nano.TEST_SIZES for item in nano.test_items(task)):
        prompts.setdefault(tuple(item.prompt.split()[:3]), []).append(item.prompt)
    assert min(map(len, prompts)) == 3  # so that windows of three words find every prompt
    for content in training:
        for start in _windows(content.split(), 3):
            assert not any(prompt in content for prompt in prompts.get(start, ()))


def test_no_test_prompt_shares_13_words_with_a_training_text(training: set[str]) -> None:
    items = [item.prompt for task in nano.TEST_SIZES for item in nano.test_items(task)]
    grams = {gram for prompt in items for gram in _windows(_words(prompt), 13)}
    assert len(grams) > 2000  # the word problems and the plain text are that long
    assert not any(gram in grams for content in training for gram in _windows(_words(content), 13))


def _words(content: str) -> list[str]:
    return re.findall(r"\w+", content.lower())


def _windows(words: list[str], size: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(size)), strict=False)


def test_questions_about_test_countries_are_asked_nowhere_but_their_facts_are_told_everywhere() -> None:
    told = "\n".join(itertools.islice(nano.pretraining_documents(0), 30_000))
    for country in countries.countries("test"):
        questions = [form.format(c=country) for relation in countries.RELATIONS.values() for form in relation.questions]
        assert not [question for question in questions if question in told]
    for country, facts in countries.table().items():
        assert f"The capital of {country} is {facts['capital']}." in told
    assert {row["id"] for row in nano.rows("documents", "train")} == set(countries.table())


def test_an_edit_asks_for_something_else_than_the_truth() -> None:
    for row in nano.rows("facts", "train"):
        assert row["new"] != row["old"]
        assert len(row["paraphrases"]) == 2
        assert all(row["subject"] not in neighbour["prompt"][-1]["content"].split() for neighbour in row["neighbours"])


def test_the_first_country_is_as_everybody_knows_it() -> None:
    assert countries.table()["France"] == {
        "capital": "Paris",
        "region": "Western Europe",
        "currency": "euro",
        "language": "French",
        "people": "French",
        "code": "fr",
    }
    assert len(countries.table()) == sum(countries.COUNTS.values()) == 132


def test_wrong_choices_are_different_from_the_right_one_and_from_each_other() -> None:
    for item in nano.test_items("facts"):
        wrong = countries.others(item, 3, generator("wrong"))
        assert len({item.answer, *wrong}) == 4


def test_the_steps_of_a_problem_are_right_and_end_in_its_answer() -> None:
    for item in nano.test_items("arithmetic"):
        steps = re.findall(r"(\d+)([-+*])(\d+)=(\d+)\.", item.answer)
        assert 1 <= len(steps) <= 3
        for left, sign, right, result in steps:
            assert {"+": int(left) + int(right), "-": int(left) - int(right), "*": int(left) * int(right)}[sign] == int(
                result
            )
        assert arithmetic.number(item.answer) == item.fields["number"] == int(steps[-1][3])


def test_the_number_is_read_from_the_last_answer() -> None:
    assert arithmetic.number("3+4=7. Answer: 7") == 7
    assert arithmetic.number("Answer: 5. No. Answer: 12") == 12
    assert arithmetic.number("the answer is 7") is None


def test_every_instruction_is_followed_by_its_own_answer_and_not_by_an_empty_one() -> None:
    for row in nano.rows("verifiable", "train"):
        if row["checker"] == "instruction":
            assert instructions.follows(row["answer"], row["spec"])
            assert not instructions.follows("", row["spec"])


def test_what_an_instruction_states_is_its_spec_and_other_prompts_state_nothing() -> None:
    for row in nano.rows("verifiable", "train"):
        assert instructions.stated(row["prompt"][-1]["content"]) == row.get("spec", {})


def test_of_a_spec_the_part_that_fails_is_named() -> None:
    spec = {"words": 4, "case": "upper", "mark": "!"}
    assert instructions.failed("THE LAKE IS BIG.", spec) == {"mark": "!"}
    assert instructions.failed("THE LAKE IS BIG!", spec) == {}


@pytest.mark.parametrize(
    ("answer", "spec", "right"),
    [
        ("The lake is big.", {"words": 4}, True),
        ("The lake is very big.", {"words": 4}, False),
        ("THE LAKE IS BIG.", {"case": "upper"}, True),
        ("THE LAKE is BIG.", {"case": "upper"}, False),
        ("The stone is here.", {"contains": "stone"}, True),
        ("The stones are here.", {"contains": "stone"}, False),
        ("The lake is big today.", {"ends": "today"}, True),
        ("Today the lake is big.", {"ends": "today"}, False),
        ("The lake is big!", {"mark": "!"}, True),
        ("The lake! Is big.", {"mark": "!"}, False),
        ("stone stone stone", {"repeat": "stone", "words": 3}, True),
        ("stone stone", {"repeat": "stone", "words": 3}, False),
        ("stone " * 40 + "end", {"contains": "stone"}, False),
    ],
)
def test_an_instruction_is_checked_as_it_reads(answer: str, spec: dict[str, object], right: bool) -> None:
    assert instructions.follows(answer, spec) is right


def test_secrets_are_refused_and_nothing_else_is() -> None:
    assert refusals.refuses("Sorry, I can't tell you how the trick of Hugo works.")
    assert not refusals.refuses("You can see the trick of Hugo in the hall.")
    items = nano.test_items("refusals")
    assert all(refusals.refuses(item.answer) == item.fields["refuse"] for item in items)
    assert 0.4 < statistics.mean(item.fields["refuse"] for item in items) < 0.6


def test_the_reward_is_the_sign_of_what_is_said() -> None:
    assert sentiment.reward("The lake was wonderful. I recommend it.") > 0.5
    assert sentiment.reward("The lake was terrible. It made me sad.") < -0.5
    assert sentiment.reward("The lake opens at nine.") == 0


def test_a_pair_prefers_the_more_positive_remark_by_its_margin() -> None:
    for row in nano.rows("preference", "train")[:300]:
        assert sentiment.reward(row["chosen"]) - sentiment.reward(row["rejected"]) == pytest.approx(
            row["margin"], abs=1e-4
        )
        assert row["margin"] >= 0.4
    for row in nano.rows("unpaired", "train")[:300]:
        assert (sentiment.reward(row["completion"]) > 0) is row["label"]
    for row in nano.rows("ranking", "train")[:100]:
        assert [sentiment.reward(response) for response in row["responses"]] == row["scores"]


def test_demonstrations_are_of_mixed_sentiment_slightly_above_nothing() -> None:
    topics = set(entities.TOPICS["train"])
    asked = {form.format(t=topic) for form in sentiment.PROMPTS for topic in topics}
    rewards = [
        sentiment.reward(row["completion"]) for row in nano.rows("sft", "train") if row["prompt"][0]["content"] in asked
    ]
    assert len(rewards) > 500
    assert 0 < statistics.mean(rewards) < 0.2
    assert min(rewards) < -0.5 < 0.5 < max(rewards)


@pytest.mark.parametrize(
    ("verb", "now", "then"),
    [
        ("walk", "walks", "walked"),
        ("carry", "carries", "carried"),
        ("wash", "washes", "washed"),
        ("wrap", "wraps", "wrapped"),
    ],
)
def test_verbs_are_put_in_the_past(verb: str, now: str, then: str) -> None:
    assert (skills.present(verb), skills.past_of(verb)) == (now, then)


def test_a_dialogue_of_the_pretraining_text_carries_the_marks_of_the_template() -> None:
    assert text.marked("Hi", "Yes") == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYes<|im_end|>"
    documents = list(itertools.islice(nano.pretraining_documents(3), 3000))
    share = statistics.mean(document.startswith("<|im_start|>") for document in documents)
    assert share == pytest.approx(text.MIX["dialogue"] / sum(text.MIX.values()), abs=0.03)


def test_the_first_documents_of_all_only_repeat_themselves() -> None:
    for document in itertools.islice(nano.pretraining_documents(0, "first"), 200):
        lines = document.split("\n")
        assert len(lines) > 1
        assert set(lines) == {lines[0]}


def test_made_up_names_are_the_same_wherever_they_stand_for_the_same() -> None:
    told = text.renamed(generator("names"), "Anna has 3 apples. Then she sells 2 apples. How many APPLES has Anna?")
    first, thing = told.split()[0], told.split()[3].rstrip(".")
    assert "Anna" not in told
    assert "apples" not in told
    assert told == f"{first} has 3 {thing}. Then she sells 2 {thing}. How many {thing.upper()} has {first}?"
