"""What reward trainers read: the preferred answers' log-probs from a reward model's hidden states, and rated answers."""

from __future__ import annotations

import pytest
import torch

from polm_bench.trainers.logps import sequence_logps
from polm_bench.trainers.pair import PairCollator
from polm_bench.trainers.reward import RatedAnswerCollator, preferred_logps

ROWS = [
    {"first": [5, 6, 7, 8, 9], "first_len": 3, "second": [5, 6, 10], "second_len": 1},
    {"first": [11, 12], "first_len": 1, "second": [11, 13, 14, 15, 16, 17], "second_len": 5},
]


@pytest.mark.slow
def test_preferred_answers_are_written_from_the_reward_models_states_as_its_language_model_writes_them(toy_model):
    from polm_bench.models.head import with_fresh_head, writing_head
    from polm_bench.models.load import load_model

    reward, batch = with_fresh_head(toy_model, "cpu"), PairCollator(0)(ROWS)
    with torch.inference_mode():
        hidden = reward.base_model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        ).last_hidden_state
        ours = preferred_logps(hidden, batch, writing_head(toy_model, reward, "cpu"))
        theirs = sequence_logps(load_model(toy_model, "float32"), batch).logps[:2]
    assert ours.tolist() == pytest.approx(theirs.tolist(), rel=1e-5)


@pytest.mark.slow
def test_a_tied_output_layer_is_trained_with_the_embeddings(toy_model):
    from polm_bench.models.head import with_fresh_head, writing_head

    reward = with_fresh_head(toy_model, "cpu")
    assert writing_head(toy_model, reward, "cpu") is reward.get_input_embeddings().weight


def test_rated_answers_are_padded_right_and_keep_their_ratings():
    batch = RatedAnswerCollator(0)([{"ids": [5, 6, 7], "rating": 1.5}, {"ids": [8], "rating": -2.0}])
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["rating"].tolist() == [1.5, -2.0]
