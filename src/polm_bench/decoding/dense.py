"""Passages found by the dot product of vectors, from a language model that was trained to tell them apart."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from polm_bench.decoding.search import PASSAGES, VECTORS, Passage
from polm_bench.probes.flops import count_flops

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ENCODER = "encoder"


class DenseIndex:
    """Passages with their vectors, and the model that makes a query's, whose passes go into a ledger."""

    def __init__(
        self,
        texts: list[str],
        vectors: torch.Tensor,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        ledger: Any,
    ) -> None:
        self.texts, self.vectors, self.model, self.tokenizer, self.ledger = texts, vectors, model, tokenizer, ledger
        self.flops = count_flops(model.base_model)
        self.asked: dict[str, torch.Tensor] = {}  # vectors of queries

    @classmethod
    def open(cls, folder: Path, ledger: Any) -> DenseIndex:
        """What `write_index` wrote."""
        from safetensors.torch import load_file

        from polm_bench.models.load import load_model, load_tokenizer

        texts = [json.loads(line) for line in (folder / PASSAGES).read_text(encoding="utf-8").splitlines()]
        vectors = load_file(folder / VECTORS)["vectors"]
        model, tokenizer = load_model(folder / ENCODER, "float32"), load_tokenizer(folder / ENCODER)
        return cls(texts, vectors, model, tokenizer, ledger)

    def search(self, query: str, count: int) -> list[Passage]:
        """The `count` passages with the largest dot product, the best first."""
        values, rows = (self.vectors @ self.vector(query)).sort(descending=True, stable=True)
        return [
            Passage(self.texts[row], value)
            for value, row in zip(values[:count].tolist(), rows[:count].tolist(), strict=True)
        ]

    def vector(self, query: str) -> torch.Tensor:
        """A query's vector [H]; the same query is read once."""
        if query not in self.asked:
            ids, mask = padded(self.tokenizer, [query])
            with torch.inference_mode():
                self.asked[query] = embed(self.model, ids, mask)[0]
            self.ledger.add(tokens_scored=ids.shape[1], flops=self.flops.score(ids.shape[1]))
        return self.asked[query]


def write_index(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], folder: Path, size: int
) -> list[int]:
    """Write encoder, passages and their vectors into a folder; returns the tokens of each passage."""
    from safetensors.torch import save_file

    from polm_bench.models.load import save_model

    parts: list[torch.Tensor] = []
    lengths: list[int] = []
    with torch.inference_mode():
        for start in range(0, len(texts), size):
            ids, mask = padded(tokenizer, texts[start : start + size], str(model.device))
            parts.append(embed(model, ids, mask).float().cpu())
            lengths += mask.sum(1).tolist()
    (folder / ENCODER).mkdir()
    save_model(model, tokenizer, folder / ENCODER)
    save_file({"vectors": torch.cat(parts)}, folder / VECTORS)
    with (folder / PASSAGES).open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(text, ensure_ascii=False) + "\n" for text in texts)
    return lengths


def padded(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], device: str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask [B, T], padded on the right."""
    rows = [torch.tensor(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id)
    lengths = torch.tensor([len(row) for row in rows])
    return ids.to(device), (torch.arange(ids.shape[1]) < lengths[:, None]).long().to(device)


def embed(model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of the last hidden states over each row's tokens, [B, H]."""
    hidden = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
