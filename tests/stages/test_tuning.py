"""Training less than all weights, from the stage to the model that answers."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.stages.test_training import OPTIM, SPEND, Given, Sums, run, sft

from polm_bench.budget import Spend
from polm_bench.config import plan
from polm_bench.errors import BadOverride
from polm_bench.models.adapter import AdaLora, Adapter
from polm_bench.models.bottleneck import Bottleneck, Inserted, Together
from polm_bench.models.load import load_model, load_tokenizer
from polm_bench.models.ranks import DyLora, Sora
from polm_bench.models.selection import Dropped, Masked
from polm_bench.models.tuning import Look
from polm_bench.stages import AttachAdapter, FoldAdapter, TrainSFT, TrainText
from polm_bench.stages.sft import looked_at
from polm_bench.trainers.fit import Cost
from polm_bench.trainers.optim import Optim

QV = {"target_modules": ["q_proj", "v_proj"]}
ADALORA = AdaLora("AdaLoraConfig", {"init_r": 6, "target_r": 2, "lora_alpha": 8, **QV})
PREFIX = Adapter("PrefixTuningConfig", {"num_virtual_tokens": 5, "prefix_projection": True, "encoder_hidden_size": 32})
MAM = Together(
    Inserted(Bottleneck(at=(".mlp",), form="parallel", activation="relu", size=8, scale=4.0)),
    Adapter("PrefixTuningConfig", {"num_virtual_tokens": 5}),
)
DYLORA = DyLora("LoraConfig", {"r": 4, "lora_alpha": 8, **QV}, served=2)
FOLDABLE = {
    "lora": Adapter("LoraConfig", {"r": 4, "target_modules": "all-linear"}),
    "dora": Adapter("LoraConfig", {"r": 4, "target_modules": "all-linear", "use_dora": True}),
    "pissa": Adapter("LoraConfig", {"r": 4, "target_modules": "all-linear", "init_lora_weights": "pissa"}),
    "olora": Adapter("LoraConfig", {"r": 4, "target_modules": "all-linear", "init_lora_weights": "olora"}),
    "adalora": ADALORA,
    "sora": Sora("LoraConfig", {"r": 4, "lora_alpha": 8, **QV}, shrink=0.4),
    "dylora": DYLORA,
    "ia3": Adapter("IA3Config", {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]}),
    "vera": Adapter("VeraConfig", {"r": 16, **QV}),
    "vblora": Adapter("VBLoRAConfig", {"r": 2, "num_vectors": 16, "vector_length": 64, **QV}),
    "shira": Adapter("ShiraConfig", {"r": 4, "random_seed": 42, **QV}),
    "fourierft": Adapter("FourierFTConfig", {"n_frequency": 100, "scaling": 300.0, **QV}),
}
FAST = Optim(lr=5e-3)


def logits(folder):
    import torch

    with torch.no_grad():
        return load_model(folder)(input_ids=torch.arange(1, 20)[None]).logits[:, -19:]


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDABLE)
def test_folded_and_unfolded_say_the_same_and_not_what_the_base_says(toy_model, tmp_path, name):
    stage = sft(adapter=FOLDABLE[name], optim=FAST)
    inputs = {Given().key: toy_model}
    inputs[stage.key] = run(stage, tmp_path / "tuned", inputs).out
    folded = run(FoldAdapter(Given(), stage), tmp_path / "folded", inputs)
    apart = run(AttachAdapter(Given(), stage), tmp_path / "apart", inputs)
    assert logits(folded.out).sub(logits(apart.out)).abs().max() < 1e-4
    assert logits(folded.out).sub(logits(toy_model)).abs().max() > 1e-3
    assert apart.ledger.notes["served_bytes"] > folded.ledger.notes["served_bytes"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "tuning",
    [ADALORA, DYLORA, PREFIX, MAM, Dropped(kept=0.5)],
    ids=["adalora", "dylora", "prefix", "mam", "dropped"],
)
def test_a_tuning_that_was_cut_off_goes_on_as_if_nothing_had_happened(toy_model, tmp_path, tuning):
    inputs, stage = {Given().key: toy_model}, sft(adapter=tuning, optim=FAST)
    whole = run(stage, tmp_path / "whole", inputs)

    def cut(done, total, what):
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(stage, tmp_path / "cut", inputs, progress=cut, checkpoint_seconds=1e-9)
    (tmp_path / "cut" / "out").rmdir()
    seen = []
    resumed = run(stage, tmp_path / "cut", inputs, progress=lambda done, total, what: seen.append(done))
    assert min(seen) == 7
    weights = sorted(path.relative_to(whole.out) for path in whole.out.rglob("*.safetensors"))
    assert weights
    assert all((resumed.out / path).read_bytes() == (whole.out / path).read_bytes() for path in weights)
    assert resumed.curve_points == whole.curve_points


@pytest.mark.slow
def test_adalora_takes_ranks_where_they_matter_least(toy_model, tmp_path):
    from safetensors.torch import load_file

    out = run(sft(adapter=ADALORA, optim=FAST), tmp_path, {Given().key: toy_model}).out
    kept = load_file(out / "adapter_model.safetensors")
    ranks = [weight.shape[0] for name, weight in kept.items() if "lora_E" in name]
    assert sum(ranks) == 2 * len(ranks)  # the target, over all matrices together
    assert len(Counter(ranks)) > 1  # and not the same for each


@pytest.mark.slow
def test_what_a_mask_is_found_on_is_paid_for(toy_model, tmp_path):
    ways = {"few": Masked("fisher", 0.01, rows=8, share=0.25), "many": Masked("fisher", 0.01, rows=99, share=0.25)}
    few, many, full = (
        run(sft(adapter=ways.get(name)), tmp_path / name, {Given().key: toy_model}) for name in ("few", "many", "full")
    )
    steps = [job.ledger.notes["steps"] for job in (few, many, full)]
    assert steps == [11, 9, 12]  # of 8 rows each, so that a quarter of them are 24 rows
    for masked in (few, many):
        assert masked.ledger.notes["asked"] == full.ledger.notes["asked"]
        assert masked.ledger.amounts["tokens_trained"] == pytest.approx(full.ledger.amounts["tokens_trained"], rel=0.05)
        assert masked.ledger.notes["trainable_params"] == int(0.01 * full.ledger.notes["trainable_params"])


@pytest.mark.slow
def test_a_weight_learns_at_the_rate_that_its_name_has(toy_model, tmp_path):
    """Adam's first step moves a weight by its rate; A has no gradient yet, as B starts at zero."""
    from safetensors.torch import load_file

    config = {"r": 4, "target_modules": ["q_proj"]}
    once, optim = Spend("steps", 1, 8, 64), Optim(lr=1e-3, schedule="constant_with_warmup", warmup=0.0)
    for factor in (1, 16):
        stage = sft(spend=once, optim=optim, adapter=Adapter("LoraConfig", config, rates={"lora_B": factor}))
        out = run(stage, tmp_path / str(factor), {Given().key: toy_model}).out
        weights = load_file(out / "adapter_model.safetensors")
        moved = [weight.abs().max().item() for name, weight in weights.items() if "lora_B" in name]
        assert moved == pytest.approx([factor * 1e-3] * 2, rel=1e-3)


def test_what_is_looked_at_first_stays_within_its_share():
    cost = Cost([10, 20, 30, 40] * 8, [1.0] * 32)
    for unit, amount in (("tokens", 1000), ("flops", 20), ("steps", 4)):
        rows, used = looked_at(Look(share=0.2, rows=99), cost, Spend(unit, amount, 8, 64), seed=0)
        assert used <= 0.2 * amount
        assert used > 0.2 * amount - {"tokens": 40, "flops": 1, "steps": 1 / 8}[unit]
        assert used == sum({"tokens": cost.tokens[row], "flops": 1, "steps": 1 / 8}[unit] for row in rows)
    rows, used = looked_at(Look(share=0.2, rows=3), cost, Spend("tokens", 1000, 8, 64), seed=0)
    assert used == sum(cost.tokens[row] for row in rows)
    assert len(rows) == 3


@pytest.mark.slow
def test_a_prompt_goes_on_from_that_of_another_task(toy_model, tmp_path):
    from safetensors.torch import load_file

    tuning = Adapter("PromptTuningConfig", {"num_virtual_tokens": 5})
    source = sft(cls=TrainText, role="corpus", adapter=tuning, optim=FAST)
    target = TrainSFT(Given(), Sums("sft"), SPEND, Optim(lr=1e-12, warmup=0), 0, tuning, source)
    inputs = {Given().key: toy_model}
    inputs[source.key] = run(source, tmp_path / "source", inputs).out
    out = run(target, tmp_path / "target", inputs).out
    first, second = (load_file(folder / "adapter_model.safetensors") for folder in (inputs[source.key], out))
    assert first["prompt_embeddings"].sub(second["prompt_embeddings"]).abs().max() < 1e-6
    assert source.key in {stage.key for stage in target.inputs}


@pytest.mark.slow
@pytest.mark.parametrize(
    "tuning", [PREFIX, Adapter("PromptTuningConfig", {"num_virtual_tokens": 5})], ids=["prefix", "prompt"]
)
def test_an_answer_with_a_soft_prompt_does_not_depend_on_the_batch(toy_model, tmp_path, tuning):
    """Left padding lies between virtual tokens and prompt; positions must not count it."""
    import torch

    stage = sft(adapter=tuning, optim=FAST)
    inputs = {Given().key: toy_model}
    inputs[stage.key] = run(stage, tmp_path / "tuned", inputs).out
    model = load_model(run(AttachAdapter(Given(), stage), tmp_path / "apart", inputs).out)
    pad = load_tokenizer(toy_model).pad_token_id
    ids = torch.arange(5, 12)[None]
    padded = torch.cat([torch.full((1, 6), pad), ids], 1)
    how = {
        "max_new_tokens": 4,
        "do_sample": False,
        "return_dict_in_generate": True,
        "output_logits": True,
        "pad_token_id": pad,
    }
    alone = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **how)
    beside = model.generate(input_ids=padded, attention_mask=(padded != pad).long(), **how)
    for one, other in zip(alone.logits, beside.logits, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.slow
def test_a_4_bit_base_stays_small_and_its_products_are_counted(toy_model, tmp_path):
    pytest.importorskip("bitsandbytes")
    from polm_bench.models.load import weight_bytes
    from polm_bench.probes.flops import count_flops
    from polm_bench.stages.nf4 import QuantizeNF4

    base = QuantizeNF4(model=Given())
    inputs = {Given().key: toy_model}
    inputs[base.key] = run(base, tmp_path / "nf4", inputs).out
    stage = TrainSFT(base, Sums("sft"), SPEND, OPTIM, 0, FOLDABLE["lora"])
    inputs[stage.key] = run(stage, tmp_path / "tuned", inputs).out
    served = run(AttachAdapter(base, stage), tmp_path / "served", inputs)
    assert served.ledger.notes["served_bytes"] < weight_bytes(toy_model) * 0.65  # embeddings, half of this model, stay
    assert logits(served.out).sub(logits(inputs[base.key])).abs().max() > 1e-3
    dense = count_flops(FOLDABLE["lora"].attach(load_model(toy_model)))
    assert count_flops(load_model(served.out)).forward == dense.forward


def test_what_cannot_be_folded_says_so_while_planning():
    with pytest.raises(BadOverride, match="PromptTuningConfig trains no change of weights"):
        plan(["+recipe=prompt_tuning", "recipe.serve=folded"])
    with pytest.raises(BadOverride, match="rounded away"):
        plan(["+recipe=qlora", "recipe.serve=folded"])
    with pytest.raises(BadOverride, match="Inserted trains is no part"):
        plan(["+recipe=adapter", "recipe.serve=folded"])


def test_folding_is_a_choice_of_serving_and_not_of_training():
    folded, apart = (plan(["+recipe=lora", f"recipe.serve={how}"]).graph.model for how in ("folded", "unfolded"))
    assert isinstance(folded, FoldAdapter)
    assert isinstance(apart, AttachAdapter)
    assert folded.adapter.key == apart.adapter.key
