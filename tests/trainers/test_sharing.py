"""Pairs in packed rows: the same log-probs and gradients from fewer tokens."""

from __future__ import annotations

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model
from tests.trainers.test_pair import PAD, pair_rows, toy_model, train
from transformers import LlamaForCausalLM, MistralConfig, MistralForCausalLM

from polm_bench.errors import BadModel
from polm_bench.objectives import DPO
from polm_bench.trainers.logps import sequence_logps
from polm_bench.trainers.objective import LiveReference
from polm_bench.trainers.pair import PairCollator
from polm_bench.trainers.sharing import check_sharing, packed_length


def pair(first: list[int], second: list[int], prompt: int) -> dict:
    return {"first": first, "first_len": len(first) - prompt, "second": second, "second_len": len(second) - prompt}


def rows_of(count: int) -> list[dict]:
    """Random pairs without labels, which would make them unpaired rows."""
    return [{name: value for name, value in row.items() if name != "label"} for row in pair_rows(count)]


UNEQUAL = [
    pair([5, 6, 7, 8, 9], [5, 6, 7, 10], prompt=2),  # the answers begin alike
    pair([5, 6, 7], [5, 6, 7, 8, 9, 11], prompt=2),  # the one is the beginning of the other
    pair([12, 13, 14], [15, 13, 16, 17], prompt=1),  # cut prompts without a common beginning
    pair([5, 6], [5, 7], prompt=1),
]


def test_a_packed_row_holds_the_common_beginning_once_and_no_last_tokens():
    batch = PairCollator(PAD, shared_prompt=True)(UNEQUAL[:2])
    assert batch["packed_ids"].tolist() == [[5, 6, 7, 8, PAD], [5, 6, 7, 8, 9]]
    assert batch["packed_places"].tolist() == [[0, 1, 2, 3, 0], [0, 1, 2, 3, 4]]
    assert batch["packed_parts"].tolist() == [[1, 1, 1, 2, 0], [1, 1, 3, 3, 3]]
    assert [packed_length(row) for row in UNEQUAL] == [4, 5, 5, 1]
    predicts = [row[mask].tolist() for row, mask in zip(batch["predicted_from"], batch["completion_mask"], strict=True)]
    assert predicts == [[1, 2, 3], [6], [1, 2], [6, 7, 8, 9]]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_log_probs_and_gradients_are_those_of_separate_sequences(attention):
    rows = UNEQUAL + rows_of(6)
    found = {}
    for shared in (False, True):
        model = toy_model().double()
        model.set_attn_implementation(attention)
        logps = sequence_logps(model, PairCollator(PAD, shared)(rows)).logps
        logps.pow(2).sum().backward()
        found[shared] = logps.detach(), model.model.layers[0].self_attn.q_proj.weight.grad
    for alone, packed in zip(found[False], found[True], strict=True):
        assert (packed - alone).norm() < 1e-5 * alone.norm()


def test_training_takes_the_same_steps(tmp_path):
    rows = rows_of(8)
    batches = [[0, 1, 2, 3], [4, 5, 6, 7]]
    told = []
    for shared in (False, True):
        model, reference = toy_model(1), LiveReference(toy_model(0))
        made, gradients = train(
            tmp_path, model, rows, batches, DPO(beta=0.1), reference=reference, shared_prompt=shared
        )
        told.append(([entry["loss"] for entry in made.state.log_history if "loss" in entry], gradients))
    assert told[1][0] == pytest.approx(told[0][0], rel=1e-5)
    for alone, packed in zip(told[0][1], told[1][1], strict=True):
        assert (alone - packed).norm() < 1e-5 * alone.norm()


def test_a_model_that_looks_past_the_mask_is_refused():
    prompted = get_peft_model(toy_model(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    with pytest.raises(BadModel, match="shared_prompt"):
        check_sharing(prompted, rows_of(4), PAD)


def test_a_sliding_window_is_refused_where_it_matters():
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    config = MistralConfig(**sizes, num_attention_heads=4, num_key_value_heads=4, sliding_window=3)
    config.initializer_range = 0.2
    model = MistralForCausalLM(config)
    check_sharing(model, [pair([5, 6], [5, 7], prompt=1)], PAD)
    with pytest.raises(BadModel, match="does not read packed pairs"):
        check_sharing(model, rows_of(4), PAD)


def test_unpaired_rows_are_not_packed():
    assert "packed_ids" not in PairCollator(PAD, shared_prompt=True)(pair_rows(2))


def test_the_reader_is_left_as_it_was():
    model: LlamaForCausalLM = toy_model().train()
    check_sharing(model, rows_of(4), PAD)
    assert model.training
