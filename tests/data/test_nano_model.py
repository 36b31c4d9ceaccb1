"""The embedded model: small, with a tokenizer that ends, and with headroom that supervised fine-tuning uses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from polm_bench.budget import Spend
from polm_bench.data import nano
from polm_bench.data.nano.source import NanoRows
from polm_bench.models import Model
from polm_bench.models.load import load_model, load_tokenizer
from polm_bench.run.execute import execute
from polm_bench.run.launch import Launch
from polm_bench.run.progress import PlainReporter
from polm_bench.run.store import Store
from polm_bench.stages import Evaluate, Suite, TaskUse, TrainSFT
from polm_bench.trainers.optim import Optim

REPOSITORY = Path(__file__).resolve().parents[2]
ASSETS = REPOSITORY / "src/polm_bench/assets/nano"
TEXTS = ["The lake is big.", "12+5=17. Answer: 17", "Straße, 3.5 kg, naïve; 日本 :)", " two  spaces\nand a line"]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(ASSETS)


def test_the_folder_is_at_most_8_megabytes_and_has_a_card() -> None:
    assert sum(path.stat().st_size for path in ASSETS.iterdir()) <= 8_000_000
    card = (ASSETS / "README.md").read_text(encoding="utf-8")
    assert f"(version {nano.VERSION})" in card
    assert all(task in card for task in ("nano_arithmetic", "nano_facts", "nano_steering", "nano_text"))


def test_text_survives_the_tokenizer_and_digits_stand_alone(tokenizer: Any) -> None:
    for text in TEXTS:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert [token for token in tokenizer.tokenize("123") if token.isdigit()] == ["1", "2", "3"]


def test_an_answer_ends_with_the_end_token_of_the_template(tokenizer: Any) -> None:
    assert (tokenizer.eos_token, tokenizer.pad_token, len(tokenizer)) == ("<|im_end|>", "<|endoftext|>", 2048)
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]
    asked = tokenizer.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    assert asked == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.apply_chat_template(messages, tokenize=False) == asked + "Yes<|im_end|>\n"
    assert nano.text.marked("Hi", "Yes") + "\n" == asked + "Yes<|im_end|>\n"
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") == tokenizer.eos_token_id


def test_rows_are_short(tokenizer: Any) -> None:
    for row in nano.rows("sft", "train")[:500]:
        whole = tokenizer.apply_chat_template(
            [*row["prompt"], {"role": "assistant", "content": row["completion"]}], tokenize=False
        )
        assert len(tokenizer(whole)["input_ids"]) <= 96


def test_the_model_is_the_llama_of_the_card() -> None:
    model = load_model(ASSETS, "float32")
    assert 3.4e6 < model.num_parameters() < 3.6e6
    assert (model.config.hidden_size, model.config.num_hidden_layers, model.config.vocab_size) == (256, 4, 2048)
    assert load_tokenizer(ASSETS).eos_token_id in model.generation_config.eos_token_id


READ = (
    "nano_arithmetic",
    "nano_facts",
    "nano_steering",
    "nano_instructions",
    "nano_refusals",
    "nano_sort",
    "nano_series",
)


@pytest.fixture(scope="module")
def headlines(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, float]]:
    """Headline scores of the base and of a short SFT, on the first 120 items of each task that is read below."""
    suite = yaml.safe_load((REPOSITORY / "conf/suite/nano.yaml").read_text(encoding="utf-8"))
    base = Model("nano", "package:nano").fetch()
    tuned = TrainSFT(base, NanoRows("sft", nano.VERSION), Spend("tokens", 100_000, 32, 192), Optim(lr=2.5e-4), seed=0)
    tasks, headline = dict.fromkeys(READ, TaskUse(limit=120)), {task: suite["headline"][task] for task in READ}
    read = Suite("sample", tasks, headline, suite["batch_size"], tuple(suite["include"]))
    store = Store(tmp_path_factory.mktemp("store"))
    rows = [Evaluate(model, read) for model in (base, tuned)]
    execute(rows, store, Launch("inline", device="cpu"), PlainReporter(), "test")
    told = [json.loads((store.path(row) / "scores.json").read_text()) for row in rows]
    return [{score["task"]: score["value"] for score in scores if score["headline"]} for scores in told]


@pytest.mark.slow
def test_the_base_leaves_room_on_every_task_that_can_show_a_gain(headlines: list[dict[str, float]]) -> None:
    base, _ = headlines
    assert base["nano_arithmetic"] < 0.4
    assert base["nano_refusals"] < 0.95
    assert all(base[task] < 0.75 for task in ("nano_facts", "nano_instructions", "nano_sort", "nano_series"))


@pytest.mark.slow
@pytest.mark.parametrize(("task", "gain"), [("nano_arithmetic", 0.05), ("nano_steering", 0.03)])
def test_a_short_sft_moves_the_base(headlines: list[dict[str, float]], task: str, gain: float) -> None:
    base, tuned = headlines
    assert tuned[task] > base[task] + gain


@pytest.mark.slow
@pytest.mark.parametrize("task", ["nano_facts", "nano_instructions", "nano_series", "nano_sort"])
def test_a_short_sft_does_not_lose_what_the_base_could(headlines: list[dict[str, float]], task: str) -> None:
    """Their gains after the whole budget (see the card) are too small for 120 items."""
    base, tuned = headlines
    assert tuned[task] > base[task] - 0.1
