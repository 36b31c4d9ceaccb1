"""A model folder from a folder, the package or the hub's cache; what can't be used is refused while planning."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from polm_bench.errors import BadModel, Unreachable
from polm_bench.models import Model
from polm_bench.models.fetch import FetchModel, template_text

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def write_weights(path: Path) -> None:
    import numpy
    from safetensors.numpy import save_file

    save_file({"weight": numpy.zeros(4, dtype=numpy.float32)}, path)


def write_model(folder: Path, eos: str = "<|im_end|>", template: str | None = CHATML) -> Path:
    """A folder as save_pretrained leaves it, with a tokenizer of single letters."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(
        models.BPE(vocab={token: n for n, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True) for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": eos, "pad_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(
        json.dumps(settings | ({"chat_template": template} if template else {}))
    )
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    write_weights(folder / "model.safetensors")
    return folder


def fetched(model: Model, out: Path) -> dict[str, str]:
    """Run the model's stage into `out`; returns the notes."""
    notes: dict[str, str] = {}
    out.mkdir()
    model.fetch().run(SimpleNamespace(out=out, scratch=out, ledger=SimpleNamespace(note=notes.update)))
    return notes


def of(path: Path | str, **settings: object) -> Model:
    return Model(**{"name": "m", "path": str(path), **settings})


def test_identity_of_a_folder_is_its_content_and_not_its_place(tmp_path):
    one, two = write_model(tmp_path / "one"), write_model(tmp_path / "two")
    (two / "notes.txt").write_text("not part of the model")
    assert of(one).fetch().key == of(two).fetch().key
    (two / "config.json").write_text(json.dumps({"model_type": "llama", "bias": True}))
    assert of(one).fetch().key != of(two).fetch().key


def test_a_template_is_part_of_the_identity(tmp_path):
    folder = write_model(tmp_path / "m")
    assert of(folder).fetch().key != of(folder, template="plain").fetch().key


def test_the_place_of_a_folder_survives_pickling(tmp_path):
    import pickle

    stage = of(write_model(tmp_path / "m")).fetch()
    assert pickle.loads(pickle.dumps(stage)).local == str(tmp_path / "m")


def test_the_hash_of_large_weights_is_remembered_until_they_change(tmp_path, monkeypatch):
    from polm_bench import remote

    monkeypatch.setenv("POLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "LARGE", 0)
    place = write_model(tmp_path / "m")
    first = of(place).fetch().key
    assert of(place).fetch().key == first
    assert len(list((tmp_path / "cache" / "hashes").iterdir())) == 4
    (place / "config.json").write_text('{"model_type": "llama"}')
    assert of(place).fetch().key != first


def test_planning_a_pinned_hub_model_needs_no_network():
    stage = of("owner/name", revision="a" * 40).fetch()
    assert (stage.origin, stage.revision, stage.sha256) == ("owner/name", "a" * 40, None)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "no weights"),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            "only pickle weights (pytorch_model.bin)",
        ),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n"),
            "not a whole safetensors",
        ),
        (lambda folder: os.truncate(folder / "model.safetensors", 70), "not a whole safetensors"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer"),
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "config.json").rename(folder / "adapter_config.json"), "an adapter without its base"),
        (lambda folder: (folder / "config.json").write_text("{"), "not readable JSON"),
        (lambda folder: (folder / "config.json").write_text('{"auto_map": {"AutoModel": "x.Y"}}'), "needs Python code"),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text(
                '{"weight_map": {"a": "model-2.safetensors"}}'
            ),
            "names model-2.safetensors",
        ),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_while_planning(tmp_path, spoil, says):
    folder = write_model(tmp_path / "m")
    spoil(folder)
    with pytest.raises(BadModel) as caught:
        of(folder).fetch()
    assert says in str(caught.value)


def test_missing_places_are_said(tmp_path):
    with pytest.raises(BadModel, match="no such folder"):
        of(tmp_path / "none").fetch()
    with pytest.raises(BadModel, match=r"needs model\.path="):
        of("").fetch()
    with pytest.raises(BadModel, match="has package:nano"):
        of("package:none").fetch()
    with pytest.raises(BadModel, match=r"model\.template=none\.jinja"):
        template_text("none.jinja")


@pytest.mark.slow
def test_weights_of_a_folder_are_linked_and_the_rest_is_copied(tmp_path):
    folder = write_model(tmp_path / "m")
    (folder / "modeling.py").write_text("raise SystemExit")
    assert fetched(of(folder), tmp_path / "out") == {}
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert (tmp_path / "out" / "model.safetensors").readlink() == folder / "model.safetensors"
    assert not (tmp_path / "out" / "config.json").is_symlink()


@pytest.mark.slow
def test_a_wrong_end_token_is_corrected_in_the_copy_alone(tmp_path):
    from transformers import AutoTokenizer

    folder = write_model(tmp_path / "m", eos="<|im_start|>")
    before = (folder / "tokenizer_config.json").read_bytes()
    notes = fetched(of(folder), tmp_path / "out")
    assert notes["end_token"].startswith("<|im_start|> -> <|im_end|>")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.eos_token == "<|im_end|>"
    assert (
        json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"] == tokenizer.eos_token_id
    )
    assert (folder / "tokenizer_config.json").read_bytes() == before


@pytest.mark.slow
def test_a_template_is_given_where_there_is_none_and_ends_the_turn(tmp_path):
    from transformers import AutoTokenizer

    folder = write_model(tmp_path / "m", eos="<|endoftext|>", template=None)
    with pytest.raises(BadModel, match="no chat template"):
        fetched(of(folder), tmp_path / "bare")
    fetched(of(folder, template="plain"), tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    chat = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Yes."}]
    assert tokenizer.apply_chat_template(chat, tokenize=False) == "User: Hi?\nAssistant: Yes.<|endoftext|>\n"
    assert (
        tokenizer.apply_chat_template(chat[:1], tokenize=False, add_generation_prompt=True) == "User: Hi?\nAssistant:"
    )


@pytest.mark.slow
def test_a_template_that_never_ends_a_turn_is_refused(tmp_path):
    endless = "{% for m in messages %}{{ m['content'] + '\n' }}{% endfor %}"
    with pytest.raises(BadModel, match="answers would not stop"):
        fetched(of(write_model(tmp_path / "m", template=endless)), tmp_path / "out")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub cache, and no network."""
    from huggingface_hub import constants

    from polm_bench.remote import hub_commit

    hub_commit.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_no_network_and_no_cache_is_one_clear_error(hub):
    with pytest.raises(
        Unreachable, match="model owner/name at revision main is needed, and neither the hub nor the cache has it"
    ):
        of("owner/name").fetch()
    with pytest.raises(Unreachable, match="nor the cache"):
        of("owner/name", revision="a" * 40).fetch().run(SimpleNamespace(out=hub))


@pytest.mark.slow
def test_a_cached_hub_model_is_resolved_to_its_commit_and_used_offline(hub, tmp_path):
    commit = "b" * 40
    store = hub / "models--owner--name"
    (store / "refs").mkdir(parents=True)
    (store / "refs" / "main").write_text(commit)
    write_model(store / "snapshots" / commit)
    stage = of("owner/name").fetch()
    assert isinstance(stage, FetchModel)
    assert stage.revision == commit
    assert fetched(of("owner/name"), tmp_path / "out") == {}
    assert of("owner/name").describe()["revision"] == commit
