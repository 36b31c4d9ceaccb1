"""Pairs whose common beginning goes through the model once: one packed row [common, rest of first, rest of second] a pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from polm_bench.errors import BadModel

if TYPE_CHECKING:
    from polm_bench.trainers.logps import Batch
    from polm_bench.trainers.pair import PairRow

COMMON, FIRST, SECOND = 1, 2, 3  # parts of a packed row; 0 is padding
CLOSE = 1e-4  # relative difference of log-probs that rounding explains in float32


def pack(rows: Sequence[PairRow], pad_id: int) -> Batch:
    """Packed rows of B pairs, padded right to L tokens, without the two last tokens, from which nothing is predicted.

    Gives `packed_ids`, `packed_places` (position in its own sequence) and `packed_parts` [B, L], and `predicted_from` [R, T]: where in the
    flattened packed rows the token lies that predicts a sequence's token; R = 2B sequences and T as `PairCollator` has them.
    """
    parts = [_split(row) for row in rows]
    width = max(common + len(first) + len(second) for common, first, second in parts)
    shape = (len(rows), width)
    ids, places = torch.full(shape, pad_id), torch.zeros(shape, dtype=torch.long)
    kinds = torch.zeros(shape, dtype=torch.long)
    longest = max(len(ids) for row in rows for ids in (row["first"], row["second"]))
    predicted_from = torch.zeros((2 * len(rows), longest), dtype=torch.long)
    for i, (row, (common, first, second)) in enumerate(zip(rows, parts, strict=True)):
        used = common + len(first) + len(second)
        ids[i, :used] = torch.tensor([*row["first"][:common], *first, *second])
        own = (range(common, common + len(first)), range(common, common + len(second)))
        places[i, :used] = torch.tensor([*range(common), *own[0], *own[1]])
        kinds[i, :used] = torch.tensor([COMMON] * common + [FIRST] * len(first) + [SECOND] * len(second))
        for sequence, (rest, skipped) in enumerate(((first, 0), (second, len(first)))):
            end = common + len(rest)  # tokens of the sequence but its last
            read = torch.arange(end)
            read[common:] += skipped
            predicted_from[sequence * len(rows) + i, 1 : end + 1] = read + i * width
    return {"packed_ids": ids, "packed_places": places, "packed_parts": kinds, "predicted_from": predicted_from}


def _split(row: PairRow) -> tuple[int, list[int], list[int]]:
    """Tokens that both sequences begin with, and the rest of each, without their last tokens."""
    first, second = row["first"][:-1], row["second"][:-1]
    differ = (at for at, (one, other) in enumerate(zip(first, second, strict=False)) if one != other)
    common = next(differ, min(len(first), len(second)))
    return common, first[common:], second[common:]


def packed_length(row: PairRow) -> int:
    """Tokens of the pair's packed row."""
    common, first, second = _split(row)
    return common + len(first) + len(second)


def packed_inputs(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """What the model is given: a token sees those before it of its own part and of the common one."""
    parts = batch["packed_parts"]
    width = parts.shape[1]
    same = parts[:, :, None] == parts[:, None, :]
    seen = (same | (parts[:, None, :] == COMMON)) & torch.ones(
        width, width, dtype=torch.bool, device=parts.device
    ).tril()
    mask = seen[:, None]
    if getattr(model.config, "_attn_implementation", None) == "eager":  # which adds its mask
        mask = torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, torch.finfo(torch.float32).min)
    return {"input_ids": batch["packed_ids"], "position_ids": batch["packed_places"], "attention_mask": mask}


def check_sharing(model: nn.Module, rows: Sequence[PairRow], pad_id: int) -> None:
    """Compare the log-probs of the longest pair with those of its sequences alone.

    Raises BadModel where they differ: the model looks at more than positions and the mask say (a sliding window, recurrent layers, a soft prompt).
    """
    from polm_bench.trainers.logps import sequence_logps
    from polm_bench.trainers.pair import PairCollator

    row = max(rows, key=lambda row: len(row["first"]) + len(row["second"]))
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            alone, packed = (
                sequence_logps(model, {name: each.to(device) for name, each in collate([row]).items()}).logps
                for collate in (PairCollator(pad_id), PairCollator(pad_id, shared_prompt=True))
            )
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadModel(f"shared_prompt=true: this model can't read packed pairs: {error}") from error
    finally:
        model.train(was_training)
    if not torch.allclose(alone, packed, rtol=CLOSE, atol=CLOSE):
        raise BadModel(
            f"shared_prompt=true changes this model's log-probs from {alone.tolist()} to {packed.tolist()}, so it does not read packed pairs "
            "as separate sequences. Leave shared_prompt at false."
        )
