"""Quantisation by bitsandbytes, which rounds weights as a model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic.dataclasses import dataclass

from polm_bench.graph import FORBID
from polm_bench.stages.compression.base import Compressed, Compression
from polm_bench.stages.compression.layers import named_linears

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, config=FORBID)
class LoadInBits(Compression):
    """LLM.int8() or the 4-bit normal float of QLoRA."""

    needs: ClassVar[Mapping[str, str]] = {"bitsandbytes": "compress"}
    stored: ClassVar[str] = "packed"
    computed: ClassVar[str] = "in 8 bits with outliers apart, or dequantised from 4"

    kind: Literal["int8", "nf4"]
    threshold: float = 6.0  # int8: size of an activation from which its column is computed unrounded
    double: bool = True  # nf4: whether the scales are quantised too

    def compress(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: torch.Tensor | None, job: Any
    ) -> Compressed:
        import torch
        from transformers import AutoModelForCausalLM, BitsAndBytesConfig

        dense = job.scratch / "dense"
        model.save_pretrained(dense)
        if self.kind == "int8":
            how = BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=self.threshold)
        else:
            how = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=self.double,
                bnb_4bit_compute_dtype=torch.float32,
            )
        made = AutoModelForCausalLM.from_pretrained(
            dense, quantization_config=how, dtype=torch.float32, device_map={"": job.device}
        )
        small = {"int8": torch.int8, "nf4": torch.uint8}[self.kind]
        for name, part in named_linears(made).items():
            if part.weight.dtype != small:
                raise ArithmeticError(f"{name} is still {part.weight.dtype} after quantisation to {self.kind}")
        return Compressed(made.eval())
