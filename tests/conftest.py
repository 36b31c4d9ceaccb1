"""The toy world of the tests: a random model that speaks the embedded world's tokens, and a home of its own for every test that asks."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


NANO = Path(__file__).parents[1] / "src" / "polm_bench" / "assets" / "nano"


LONGEST = (
    "test_every_recipe.py",
    "test_drill.py",
    "test_several.py",
    "test_nano_model.py",
    "test_track.py",
    "test_tune.py",
    "test_isolate.py",
    "test_compress.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest go first, so that none of them begins when the other cores have nothing left to do."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="module", autouse=True)
def frozen() -> None:
    """What lives before a file of tests, for the most part tests and imports, is not looked through at each collection of garbage in it.

    Every training asks for several collections; among three thousand tests they took a quarter of the time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory) -> Path:
    """Folder of a random Llama: 2 layers, hidden size 128, the nano tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from polm_bench.models.load import save_model

    tokenizer = AutoTokenizer.from_pretrained(NANO)
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        vocab_size=len(tokenizer),
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    folder = tmp_path_factory.mktemp("toy")
    save_model(LlamaForCausalLM(config), tokenizer, folder)
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty POLM_HOME that does not exist yet."""
    path = tmp_path / "home"
    monkeypatch.setenv("POLM_HOME", str(path))
    return path
