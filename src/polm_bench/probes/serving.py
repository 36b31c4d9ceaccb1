"""How fast a model answers: prefill and decode speed on one fixed load."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from polm_bench.probes.memory import peak_host_bytes

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel

ROWS, PROMPT, NEW = 8, 128, 16


def measure(model: PreTrainedModel, new_cache: Callable[[], Cache | None] = lambda: None) -> dict[str, float]:
    """Tokens per second of reading 8 prompts of 128 tokens at once and of writing 16 tokens to each; one run, after a warm-up.

    `cache_bytes` is what the keys and values of these 8 x 144 tokens take in the end.
    """
    import torch

    prompted = hasattr(model, "peft_config") and model.active_peft_config.is_prompt_learning
    writer = model.get_base_model() if prompted else model  # the cache already holds a soft prompt
    ids = torch.arange(ROWS * PROMPT, device=model.device).reshape(ROWS, PROMPT) % model.config.vocab_size
    with torch.inference_mode():
        model(input_ids=ids[:, :8], use_cache=False)
        started = time.perf_counter()
        cache = model(input_ids=ids, past_key_values=new_cache(), use_cache=True, logits_to_keep=1)
        token = cache.logits[:, -1:].argmax(-1)
        read = time.perf_counter()
        for _ in range(NEW):
            cache = writer(input_ids=token, past_key_values=cache.past_key_values, use_cache=True)
            token = cache.logits[:, -1:].argmax(-1)
        token.cpu()
        done = time.perf_counter()
    return {
        "prefill_tokens_per_second": round(ROWS * PROMPT / (read - started), 1),
        "decode_tokens_per_second": round(ROWS * NEW / (done - read), 1),
        "serve_peak_bytes": peak_host_bytes(),
        "cache_bytes": _bytes(cache.past_key_values),
    }


def _bytes(cache: Cache) -> int:
    """Bytes of all tensors that the layers of a cache keep."""
    import torch

    kept = [value for layer in cache.layers for value in vars(layer).values()]
    tensors = [part for value in kept for part in (value if isinstance(value, tuple) else (value,))]
    return sum(part.nbytes for part in tensors if isinstance(part, torch.Tensor))
