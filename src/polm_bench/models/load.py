"""Load and save model folders: safetensors, configuration, tokenizer; no pickle and no code from outside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from polm_bench.errors import BadModel
from polm_bench.models.structure import ADAPTER, Structure, read_structure

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Dtype = Literal["auto", "float32", "bfloat16"]


def load_model(folder: Path, dtype: Dtype = "auto", device: str = "cpu") -> PreTrainedModel:
    """Causal language model in `folder`, in evaluation mode.

    `auto` is bf16 where the device computes it natively and fp32 on a CPU (without AMX, bf16 training is 2-3 times slower there).
    """
    from transformers import AutoModelForCausalLM

    how = {"dtype": resolve_dtype(dtype, device), "attn_implementation": fastest_attention(device)}
    structure = read_structure(folder)
    try:
        if structure is None:
            model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, **how)
        else:
            model = _restructured(folder, structure, how)
    except OSError as error:
        raise BadModel(f"{folder} holds no model that transformers can load from safetensors: {error}") from error
    if (folder / ADAPTER).is_dir():
        from polm_bench.models.adapter import serve

        model = serve(model, folder / ADAPTER)
    model = model.to(device).eval()
    if getattr(model, "is_quantized", False):
        _unpack(model)
    return model


def _unpack(model: PreTrainedModel) -> None:
    """Let compressed-tensors unpack its weights, which it does at the first call: in inference mode they would be of no use outside of it."""
    import torch

    with torch.no_grad():
        model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=model.device), use_cache=False)


def _restructured(folder: Path, structure: Structure, how: dict[str, Any]) -> PreTrainedModel:
    """The model with changed modules, filled from `model.safetensors`; a missing or unknown weight is an error."""
    from safetensors.torch import load_model as fill
    from transformers import AutoConfig, AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), **how)
    structure.apply(model)
    model.to(how["dtype"])
    fill(model, folder / "model.safetensors", strict=True)
    return model


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Tokenizer of `folder`, which must have an end token, a pad token and a chat template."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise BadModel(f"{folder} holds no tokenizer that transformers can load: {error}") from error
    if tokenizer.eos_token_id is None:
        raise BadModel(
            f"the tokenizer in {folder} has no end token, so an answer could never stop; set eos_token in tokenizer_config.json"
        )
    if tokenizer.chat_template is None:
        raise BadModel(
            f"the tokenizer in {folder} has no chat template; give one with model.template=plain or a path to a .jinja file"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write weights and tokenizer."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def resolve_dtype(dtype: Dtype, device: str) -> torch.dtype:
    import torch

    if dtype == "auto":
        native = device.startswith("cuda") and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if native else torch.float32
    return getattr(torch, dtype)


def fastest_attention(device: str) -> str:
    """`flash_attention_2` on a CUDA device where it is installed, else PyTorch's own fused attention."""
    from transformers.utils import is_flash_attn_2_available

    return "flash_attention_2" if device.startswith("cuda") and is_flash_attn_2_available() else "sdpa"


def weight_bytes(folder: Path) -> int:
    """Bytes on disk of what must be kept to serve the model: weights and adapters."""
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
