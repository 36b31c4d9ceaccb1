"""How a model takes answers that it is given: are they what it would say, and how likely are they."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from polm_bench.models.chat import Message, encode_completions, encode_prompts

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Taken(NamedTuple):
    """One answer to one prompt."""

    exact: bool  # the likeliest token at every place is the answer's, its end token included: what greedy decoding would write
    logp: float  # mean over the answer's tokens, in nats
    tokens: int  # of prompt and answer


def take(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[Message]],
    answers: Sequence[str],
    batch_size: int,
) -> list[Taken]:
    """Each answer under the model, in one forward pass."""
    import torch

    asked, said = encode_prompts(tokenizer, prompts), encode_completions(tokenizer, answers)
    found: list[Taken] = []
    with torch.inference_mode():
        for start in range(0, len(asked), batch_size):
            pairs = list(zip(asked[start : start + batch_size], said[start : start + batch_size], strict=True))
            width = max(len(prompt) + len(answer) for prompt, answer in pairs)
            ids = torch.full((len(pairs), width), tokenizer.pad_token_id)
            for row, (prompt, answer) in enumerate(pairs):
                ids[row, : len(prompt) + len(answer)] = torch.tensor([*prompt, *answer])
            logps = model(input_ids=ids.to(model.device)).logits.float().log_softmax(-1).cpu()
            for row, (prompt, answer) in enumerate(pairs):
                here = logps[row, len(prompt) - 1 : len(prompt) + len(answer) - 1]
                target = torch.tensor(answer)
                mean = float(here.gather(1, target[:, None]).mean())
                found.append(Taken(bool((here.argmax(-1) == target).all()), mean, len(prompt) + len(answer)))
    return found
