"""Rows are brought into the normal form, and a bad row is named by place and field."""

from __future__ import annotations

import pytest

from polm_bench.data.roles import MAX_CHARS, ROLES, check_rows
from polm_bench.errors import BadData

ASKED = [{"role": "user", "content": "What is 2 + 2?"}]
GOOD = {
    "corpus": {"text": "Once."},
    "sft": {"prompt": ASKED, "completion": "4"},
    "preference": {"prompt": ASKED, "chosen": "4", "rejected": "5", "margin": 1},
    "ranking": {"prompt": ASKED, "responses": ["4", "5"], "scores": [1.0, 0.0]},
    "unpaired": {"prompt": ASKED, "completion": "4", "label": True},
    "rated": {"prompt": ASKED, "completion": "4", "rating": 2.5, "spread": 0.5},
    "prompts": {"prompt": ASKED},
    "verifiable": {"prompt": ASKED, "answer": "4", "checker": "number"},
    "domains": {"domain": "sums", "prompt": ASKED, "completion": "4"},
    "facts": {
        "prompt": ASKED,
        "subject": "2",
        "old": "4",
        "new": "5",
        "paraphrases": ["Add 2 and 2."],
        "neighbours": [{"prompt": "3 + 3?", "answer": "6"}],
    },
    "documents": {"id": "a", "text": "Once."},
}


def test_every_role_has_a_good_row_that_is_its_own_normal_form():
    assert set(GOOD) == set(ROLES)
    for role, row in GOOD.items():
        normal = check_rows(role, [row], "f")
        assert check_rows(role, normal, "f") == normal


def test_a_prompt_of_text_becomes_one_user_message_and_other_columns_are_left_out():
    assert check_rows("sft", [{"prompt": "What is 2 + 2?", "completion": "4", "id": 7}], "f") == [
        {"prompt": ASKED, "completion": "4"}
    ]


@pytest.mark.parametrize(
    ("role", "change", "says"),
    [
        ("sft", {"completion": None}, "f.jsonl, row 2, field 'completion': missing"),
        ("sft", {"completion": "  "}, "field 'completion': empty"),
        ("sft", {"completion": 4}, "field 'completion': must be text, this is a whole number"),
        ("sft", {"completion": "x" * (MAX_CHARS + 1)}, "100,001 characters long"),
        ("sft", {"completion": "What is 2 + 2? It is 4."}, "field 'completion': begins with the prompt"),
        ("sft", {"completion": "\ud800"}, "half of a surrogate pair"),
        ("sft", {"prompt": []}, "field 'prompt': empty"),
        ("sft", {"prompt": [*ASKED, {"role": "assistant", "content": "4"}]}, "must end in a user message"),
        ("sft", {"prompt": [{"role": "bot", "content": "4"}]}, "message 1 has the role 'bot'"),
        ("sft", {"prompt": [{"role": "user"}]}, "message 1 must have 'role' and 'content'"),
        ("sft", {"prompt": [{"role": "user", "content": ""}]}, "content of message 1: empty"),
        ("preference", {"rejected": "4"}, "field 'rejected': equal to 'chosen'"),
        ("preference", {"margin": "big"}, "field 'margin': must be a number"),
        ("preference", {"margin": float("nan")}, "field 'margin': must be finite"),
        ("ranking", {"scores": [1.0]}, "field 'scores': 1 scores for 2 responses"),
        ("ranking", {"responses": ["4"], "scores": [1.0]}, "needs at least 2"),
        ("ranking", {"responses": ["4", ""]}, "field 'responses': item 2: empty"),
        ("unpaired", {"label": 1}, "field 'label': must be true or false"),
        (
            "facts",
            {"neighbours": [{"prompt": "3 + 3?"}]},
            "field 'neighbours': item 1: must have 'prompt' and 'answer'",
        ),
        ("verifiable", {"spec": [1]}, "field 'spec': must be a mapping"),
    ],
)
def test_a_bad_row_is_named_by_row_and_field(role, change, says):
    with pytest.raises(BadData) as caught:
        check_rows(role, [GOOD[role], {**GOOD[role], **change}], "f.jsonl")
    assert "f.jsonl, row 2" in str(caught.value)
    assert says in str(caught.value)


def test_a_missing_column_is_answered_with_the_columns_there_are():
    with pytest.raises(BadData, match=r"Columns here: prompt, good.*columns\.chosen="):
        check_rows("preference", [{"prompt": "a b", "good": "c"}], "f")


def test_no_rows_at_all_is_an_error():
    with pytest.raises(BadData, match="no rows"):
        check_rows("sft", [], "f")


def test_a_one_word_greeting_may_be_answered_with_itself():
    assert check_rows("sft", [{"prompt": "Hello", "completion": "Hello, there."}], "f")
