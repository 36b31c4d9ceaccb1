"""Model folders as files: which belong to a model, whether they can be used, and making one from another."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polm_bench.errors import BadModel
from polm_bench.paths import is_inside
from polm_bench.remote import remembered_sha256

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WEIGHTS = "*.safetensors"
INDEX = "*.safetensors.index.json"
FILES = (
    WEIGHTS,
    INDEX,
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
"""The files of a model, and nothing else: no pickle, no code, no other framework's weights."""

KERNELS = ("attn_implementation", "experts_implementation")
"""Settings of config.json by which transformers takes code from the hub (integrations/hub_kernels.py)."""

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def model_files(folder: Path) -> list[Path]:
    """Files of the model in `folder`, by name."""
    return sorted({path for pattern in FILES for path in folder.glob(pattern) if path.is_file()})


def content_hash(folder: Path) -> str:
    """SHA-256 over names and contents of the model's files: the identity of a folder, wherever it lies."""
    listing = "\n".join(f"{path.name} {remembered_sha256(path)}" for path in model_files(folder))
    return hashlib.sha256(listing.encode()).hexdigest()


def check_folder(folder: Path, asked: str) -> None:
    """Raise BadModel, with what to do, when `folder` can't be used as a model; `asked` is what the user gave."""
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            raise BadModel(
                f"{asked}: this is an adapter without its base model. Merge it into the base and give the merged folder."
            )
        raise BadModel(
            f"{asked}: no config.json in {folder}. Give a folder saved by transformers' save_pretrained, or a hub id."
        )
    for name in ("config.json", "tokenizer_config.json"):
        told = _read_json(folder / name, asked) if (folder / name).is_file() else {}
        if "auto_map" in told:
            raise BadModel(
                f"{asked}: {name} has auto_map: it needs Python code from the model's folder, which is never run here. Use an architecture of transformers."
            )
        if kernels := [setting for setting in KERNELS if "/" in str(told.get(setting))]:
            raise BadModel(
                f"{asked}: {name} has {kernels[0]}={told[kernels[0]]}: code of a hub repository, which is never run here. Take the setting out."
            )
    _check_weights(folder, asked)
    for path in model_files(folder):
        if not (path.match(WEIGHTS) or is_inside(path, folder)):  # weights are large, and nothing else passes for them
            raise BadModel(f"{asked}: {path.name} is a link that leads out of {folder}. Copy the file it leads to.")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise BadModel(
            f"{asked}: no tokenizer in {folder}. Save it there with tokenizer.save_pretrained (tokenizer.json, tokenizer_config.json)."
        )


def _check_weights(folder: Path, asked: str) -> None:
    weights = sorted(folder.glob(WEIGHTS))
    if absent := [path.name for path in weights if not path.is_file()]:
        raise BadModel(
            f"{asked}: {absent[0]} is no file, or a link to one that isn't there. Copy or download it whole."
        )
    if not weights:
        pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
        if pickles:
            raise BadModel(
                f"{asked}: only pickle weights ({', '.join(pickles[:3])}), and loading a pickle can run any code. Save the model again with "
                "save_pretrained(..., safe_serialization=True), which writes *.safetensors."
            )
        raise BadModel(f"{asked}: no weights in {folder}; there must be at least one *.safetensors file.")
    for path in weights:
        _check_safetensors(path, asked)
    for index in (path for path in model_files(folder) if path.match(INDEX)):
        places = _read_json(index, asked).get("weight_map", {})
        shards = set(map(str, places.values())) if isinstance(places, dict) else set()
        outside = sorted(shard for shard in shards if Path(shard).name != shard)
        if outside:
            raise BadModel(f"{asked}: {index.name} names {outside[0]}, which is no file of the model's own folder.")
        missing = sorted(shards - {path.name for path in weights})
        if missing:
            raise BadModel(
                f"{asked}: {index.name} names {', '.join(missing[:3])}, which {folder} does not have. Copy or download all shards."
            )


def _check_safetensors(path: Path, asked: str) -> None:
    """A whole safetensors file is as long as its header says; a cut download or a Git LFS pointer is not."""
    size = path.stat().st_size
    with path.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        try:
            header = json.loads(handle.read(length)) if 2 <= length <= size - 8 else {}
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
            whole = bool(ends) and size == 8 + length + max(ends)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):  # a header of another kind
            whole = False
    if not whole:
        raise BadModel(
            f"{asked}: {path.name} ({size:,} bytes) is not a whole safetensors file; was its download cut, or is it a Git LFS pointer?"
        )


def _read_json(path: Path, asked: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise BadModel(f"{asked}: {path} is not readable JSON ({error}).") from error
    if not isinstance(value, dict):
        raise BadModel(f"{asked}: {path} must hold a JSON object.")
    return value


def take(folder: Path, out: Path, copy_weights: bool) -> None:
    """Put the model of `folder` into `out`: small files copied, as they may be corrected there; weights copied or linked."""
    for path in model_files(folder):
        if path.match(WEIGHTS) and not copy_weights:
            (out / path.name).symlink_to(path.resolve())
        else:
            shutil.copyfile(path, out / path.name)  # not its mode: a package may be read-only


def finish(out: Path, template: str | None, asked: str) -> dict[str, str]:
    """Give the model in `out` its chat template and see that its end token ends the assistant's turn; returns notes on what was changed.

    Raises BadModel when there is no chat template, or no token that ends a turn.
    """
    from transformers import AutoTokenizer

    check_folder(out, asked)
    try:
        tokenizer = AutoTokenizer.from_pretrained(out)
    except (OSError, ValueError, KeyError) as error:
        raise BadModel(f"{asked}: transformers can't load the tokenizer: {error}") from error
    notes = {}
    if template is not None and template != tokenizer.chat_template:
        tokenizer.chat_template = template
        notes["chat_template"] = "given by model.template"
    end = end_of_turn(tokenizer, asked)
    if end != tokenizer.eos_token:
        notes["end_token"] = f"{tokenizer.eos_token} -> {end}, which ends the assistant's turn in the chat template"
        tokenizer.eos_token = end
    if notes:
        tokenizer.save_pretrained(out)
    _write_generation_config(out, tokenizer)
    return notes


def end_of_turn(tokenizer: PreTrainedTokenizerBase, asked: str) -> str:
    """The special token that follows the assistant's words in the chat template.

    A tokenizer whose end token is another one (GGUF metadata is often wrong about it) never sees an answer end.
    """
    if tokenizer.chat_template is None:
        raise BadModel(
            f"{asked}: the tokenizer has no chat template. Give one with model.template=plain, or a path to a .jinja file."
        )
    said = "a certain answer"
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": said}], tokenize=False
    )
    after = text.rpartition(said)[2].lstrip()
    if tokenizer.eos_token and after.startswith(tokenizer.eos_token):
        return tokenizer.eos_token
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    follows = [token for token in special if after.startswith(token)]
    if not follows:
        raise BadModel(
            f"{asked}: in the chat template nothing that is a special token ends the assistant's turn (there follows {after[:40]!r}; the tokenizer's end token is "
            f"{tokenizer.eos_token!r}), so answers would not stop. Give a template that ends it, such as model.template=plain."
        )
    return max(follows, key=len)


def _write_generation_config(out: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Let generation stop at the tokenizer's end token, whatever else it stops at."""
    path = out / "generation_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    stops = config.get("eos_token_id")
    stops = [] if stops is None else stops if isinstance(stops, list) else [stops]
    if tokenizer.eos_token_id not in stops:
        config["eos_token_id"] = [tokenizer.eos_token_id, *stops] if stops else tokenizer.eos_token_id
    if config.get("pad_token_id") is None:
        config["pad_token_id"] = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
