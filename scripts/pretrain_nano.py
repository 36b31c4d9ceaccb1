"""Train the embedded base model from nothing, score it before and after supervised fine-tuning, and write it with its card into the package.

    python scripts/pretrain_nano.py [--store FOLDER] [--threads 2] [--publish]

All work is stages in a store, so a killed run goes on from its last checkpoint. Takes about 40 minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import yaml
from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.data import nano
from polm_bench.data.nano.source import NanoPretraining, NanoRows
from polm_bench.data.nano.text import EDITIONS, Phase
from polm_bench.graph import FORBID, Stage
from polm_bench.run.execute import Outcome, execute
from polm_bench.run.launch import Launch
from polm_bench.run.progress import PlainReporter
from polm_bench.run.store import Store
from polm_bench.stages import Evaluate, Suite, TaskUse, TrainSFT, TrainText
from polm_bench.trainers.optim import Optim

REPOSITORY = Path(__file__).resolve().parent.parent
ASSETS = REPOSITORY / "src/polm_bench/assets/nano"

TOKENS: dict[Phase, int] = {"first": 300_000, "main": 4_600_000, "last": 1_900_000}
DOCUMENTS: dict[Phase, int] = {
    "first": 14_000,
    "main": 150_000,
    "last": 58_000,
}  # a little more, so that none is seen twice
SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 640,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
}
VOCABULARY, CONTEXT = 2048, 512
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@dataclass(frozen=True, config=FORBID)
class InitModel(Stage):
    """A Llama with random weights, and a byte-level BPE tokenizer trained on the first documents; digits are single tokens."""

    data: NanoPretraining
    tokenizer_documents: int
    vocabulary: int
    context: int
    shape: dict[str, int]
    template: str
    seed: int

    def run(self, job: Any) -> None:
        from transformers import LlamaConfig, LlamaForCausalLM, set_seed

        from polm_bench.models.load import save_model

        tokenizer = self._tokenizer(
            [row["text"] for row in itertools.islice(self.data.load("train"), self.tokenizer_documents)]
        )
        set_seed(self.seed)
        config = LlamaConfig(
            vocab_size=self.vocabulary,
            max_position_embeddings=self.context,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **self.shape,
        )
        save_model(LlamaForCausalLM(config), tokenizer, job.out)

    def _tokenizer(self, texts: list[str]) -> Any:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
        from transformers import PreTrainedTokenizerFast

        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        bpe.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocabulary,
            special_tokens=list(SPECIAL),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        bpe.train_from_iterator((text.replace(SPECIAL[1], "").replace(SPECIAL[2], "") for text in texts), trainer)
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=bpe,
            bos_token=SPECIAL[0],
            eos_token=SPECIAL[2],
            pad_token=SPECIAL[0],
            model_max_length=self.context,
            clean_up_tokenization_spaces=False,
        )
        tokenizer.chat_template = self.template
        return tokenizer


@dataclass(frozen=True, config=FORBID)
class HalvePrecision(Stage):
    """The same model in bfloat16, as the package carries it."""

    init: Stage

    def run(self, job: Any) -> None:
        import torch

        from polm_bench.models.load import load_model, load_tokenizer, save_model

        folder = job.path(self.init)
        save_model(load_model(folder, "float32").to(torch.bfloat16), load_tokenizer(folder), job.out)


def base_model() -> Stage:
    """The base model as a graph of stages: copying first, then the main mix, then more questions and answers."""

    def text(phase: Phase) -> NanoPretraining:
        return NanoPretraining("corpus", EDITIONS[phase], seed=0, documents=DOCUMENTS[phase], phase=phase)

    def train(init: Stage, phase: Phase, batch: int, length: int, lr: float, schedule: str, warmup: float) -> TrainText:
        optim = Optim(lr=lr, schedule=schedule, warmup=warmup, weight_decay=0.01, beta2=0.98)
        return TrainText(init, text(phase), Spend("tokens", TOKENS[phase], batch, length), optim, seed=0)

    init = InitModel(text("main"), 20_000, VOCABULARY, CONTEXT, SHAPE, TEMPLATE, seed=0)
    copier = train(init, "first", 16, 64, 1.0e-3, "constant_with_warmup", 0.1)
    reader = train(copier, "main", 16, 128, 2.0e-3, "cosine", 0.02)
    return HalvePrecision(train(reader, "last", 16, 128, 1.0e-3, "linear", 0.05))


def tuned_model(base: Stage) -> Stage:
    """The base after the SFT that `budget=nano` pays for; learning rate as conf/recipe and conf/model give it."""
    rate = _config("recipe/_sft")["optim"]["lr"] * _config("model/nano")["lr_scale"]
    budget = _config("budget/nano")
    spend = Spend(budget["unit"], budget["amount"], budget["batch"], budget["max_length"])
    return TrainSFT(base, NanoRows("sft", nano.VERSION), spend, Optim(lr=rate), seed=0)


def suite() -> Suite:
    """The suite of conf/suite/nano.yaml."""
    read = _config("suite/nano")
    tasks = {name: TaskUse(**use) for name, use in read["tasks"].items()}
    return Suite(
        read["name"], tasks, read["headline"], read["batch_size"], tuple(read["include"]), read["chat"], read["seed"]
    ).pinned()


def _config(name: str) -> dict[str, Any]:
    return yaml.safe_load((REPOSITORY / "conf" / f"{name}.yaml").read_text(encoding="utf-8"))


def publish(store: Store, base: Stage, rows: dict[str, Evaluate]) -> None:
    """Write weights, tokenizer and card into the package."""
    from nano_card import card  # beside this script

    from polm_bench.models.folder import take

    for old in ASSETS.glob("*"):
        old.unlink()
    take(store.path(base), ASSETS, copy_weights=True)
    (ASSETS / "README.md").write_text(card(store, base, rows), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=REPOSITORY / ".polm/store")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--publish", action="store_true", help="write the result into src/polm_bench/assets/nano")
    chosen = parser.parse_args()
    base = base_model()
    rows = {"base": Evaluate(base, suite()), "sft": Evaluate(tuned_model(base), suite())}
    store = Store(chosen.store)
    launch = Launch("inline", device="cpu", threads=chosen.threads)
    outcomes: list[Outcome] = execute(list(rows.values()), store, launch, PlainReporter(), "nano")
    if outcomes[-1].status != "ok":
        raise SystemExit(f"{outcomes[-1].stage.folder}: {outcomes[-1].status}, {outcomes[-1].reason}")
    if chosen.publish:
        publish(store, base, rows)


if __name__ == "__main__":
    main()
