"""The base in 4 bits, for adapters to be trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID, Stage


@dataclass(frozen=True, config=FORBID)
class QuantizeNF4(Stage):
    """Linear layers in 4-bit NormalFloat, 64 weights to a scale, the scales themselves in 8 bits; computed in the dtype of the rest.

    Dettmers et al. 2023 (arXiv:2305.14314), Section 3, "4-bit NormalFloat Quantization" and "Double Quantization"; by bitsandbytes, embeddings and
    the output layer left out.
    """

    needs: ClassVar[Mapping[str, str]] = {"bitsandbytes": "compress"}

    model: Stage

    def run(self, job: Any) -> None:
        import torch
        from transformers import AutoModelForCausalLM, BitsAndBytesConfig

        from polm_bench.models.load import fastest_attention, load_tokenizer, save_model, weight_bytes

        folder = job.path(self.model)
        dtype = torch.float32 if job.device == "cpu" else torch.bfloat16
        how = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            use_safetensors=True,
            dtype=torch.float32,
            quantization_config=how,
            attn_implementation=fastest_attention(job.device),
            device_map={"": job.device},
        )
        save_model(model, load_tokenizer(folder), job.out)
        job.ledger.note(served_bytes=weight_bytes(job.out))
