"""mergekit's results against the papers' equations, and our merging stages, on a model of a few dozen weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.data.domains import DomainRows
from polm_bench.data.source import Rows
from polm_bench.errors import BadData, BadModel
from polm_bench.graph import FORBID, Stage
from polm_bench.objectives.aligning import Transport, WeightMatching
from polm_bench.objectives.merging import Average, FisherAverage, RegMean
from polm_bench.run.job import Job, silent
from polm_bench.run.launch import Launch
from polm_bench.stages.adamerging import LearnCoefficients
from polm_bench.stages.align import AlignUnits, units
from polm_bench.stages.fuse import TrainFused
from polm_bench.stages.merge import CombineWeights, MergeModels, WeightStatistics, put, weights_of
from polm_bench.stages.sft import TrainSFT
from polm_bench.stages.soup import GreedySoup
from polm_bench.stages.surgery import CorrectRepresentations
from polm_bench.trainers.optim import Optim

KEY = "model.layers.0.self_attn.k_proj.weight"  # [2, 4]


@dataclass(frozen=True, config=FORBID)
class Named(Stage):
    """Stands for a model folder that the test has."""

    name: str


@dataclass(frozen=True, config=FORBID)
class Counting(Rows):
    """One question with one answer, for each of two domains."""

    def load(self, split):
        asked = [{"role": "user", "content": "Next: 1 2"}]
        rows = [{"prompt": asked, "completion": "3"}] * 8
        if self.role == "domains":
            return [{"domain": name, **row} for name in ("b", "a") for row in rows]
        return rows


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, toy_model):
    """Base, three models and their folders: Llamas of hidden size 4; the key weights are the test's, the others random."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from polm_bench.models.load import save_model

    tokenizer = AutoTokenizer.from_pretrained(toy_model)
    vectors = {
        "base": [[0.0] * 4] * 2,
        "one": [[4.0, -3.0, 2.0, 1.0], [0.5, 0.1, -5.0, 0.0]],
        "two": [[-1.0, -6.0, 0.2, 7.0], [0.3, 2.0, 0.0, 0.0]],
        "three": [[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]],
    }
    root = tmp_path_factory.mktemp("tiny")
    for seed, (name, vector) in enumerate(vectors.items()):
        torch.manual_seed(seed)
        config = LlamaConfig(
            hidden_size=4,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=2,
            intermediate_size=8,
            vocab_size=len(tokenizer),
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        model = LlamaForCausalLM(config)
        model.model.layers[0].self_attn.k_proj.weight.data.copy_(torch.tensor(vector))
        save_model(model, tokenizer, root / name)
    return root


def run(stage: Stage, folder: Path, models: Path) -> Job:
    """Run a stage whose inputs are `Named` models, or stages that ran before into `<key>/`."""
    (folder / "scratch").mkdir(parents=True, exist_ok=True)
    inputs = {s.key: models / s.name if isinstance(s, Named) else folder / s.key for s in stage.inputs}
    out = folder / stage.key
    out.mkdir(exist_ok=True)
    job = Job(out, folder / "scratch", inputs, Launch("inline"), "cpu", silent)
    stage.run(job)
    return job


def merged(
    tiny, folder: Path, method: str, names=("one", "two"), base="base", each=None, whole=None, seed=0, anchored=True
):
    """All weights after a merge by mergekit."""
    from safetensors.torch import load_file

    stage = MergeModels(Named(base), tuple(map(Named, names)), method, each or {}, whole or {}, seed, anchored)
    return load_file(run(stage, folder, tiny).out / "model.safetensors")


def weights(tiny, name):
    from safetensors.torch import load_file

    return load_file(tiny / name / "model.safetensors")


@pytest.mark.slow
def test_task_arithmetic_adds_the_scaled_task_vectors(tiny, tmp_path):
    found = merged(tiny, tmp_path, "task_arithmetic", each={"weight": 0.4}, whole={"normalize": False})
    base, one, two = (weights(tiny, name) for name in ("base", "one", "two"))
    for name, weight in found.items():
        assert weight.allclose(base[name] + 0.4 * (one[name] - base[name] + two[name] - base[name]), atol=1e-6)


@pytest.mark.slow
def test_ties_trims_elects_a_sign_and_averages_what_agrees(tiny, tmp_path):
    """By hand. Kept halves: [4 -3 2 0; 0 0 -5 0] and [-1 -6 0 7; 0 2 0 0]; signs of the sums: + - + +; . + - .; means of what agrees."""
    found = merged(
        tiny, tmp_path, "ties", each={"weight": 1.0, "density": 0.5}, whole={"lambda": 1.0, "normalize": True}
    )
    assert found[KEY].tolist() == [[4.0, -4.5, 2.0, 7.0], [0.0, 2.0, -5.0, 0.0]]


@pytest.mark.slow
def test_dare_drops_and_rescales_to_the_old_sum_of_magnitudes(tiny, tmp_path):
    import torch

    told = {"each": {"weight": 1.0, "density": 0.5}, "whole": {"normalize": False, "rescale": True}}
    found = merged(tiny, tmp_path, "dare_linear", names=("one",), **told)
    change, before = found[KEY], weights(tiny, "one")[KEY]
    kept = change != 0
    assert kept.any()
    factor = before.abs().sum() / before[kept].abs().sum()
    assert change[kept].allclose(factor * before[kept], rtol=1e-5)
    again = merged(tiny, tmp_path / "again", "dare_linear", names=("one",), **told)
    assert all(torch.equal(again[name], found[name]) for name in found)
    other = merged(tiny, tmp_path / "other", "dare_linear", names=("one",), seed=1, **told)
    assert any(not torch.equal(other[name], found[name]) for name in found)


@pytest.mark.slow
def test_slerp_goes_half_of_the_angle_and_keeps_the_length(tiny, tmp_path):
    import torch

    found = merged(tiny, tmp_path, "slerp", names=("one", "two"), base="one", whole={"t": 0.5})[KEY].flatten()
    one, two = weights(tiny, "one")[KEY].flatten(), weights(tiny, "two")[KEY].flatten()
    angle = torch.arccos(one @ two / one.norm() / two.norm())
    # Shoemake 1985: sin(angle/2) / sin(angle) of both, at t = 1/2
    assert found.allclose((one + two) * torch.sin(angle / 2) / torch.sin(angle), atol=1e-5)


@pytest.mark.slow
def test_model_stock_goes_as_far_from_the_base_as_the_angle_says(tiny, tmp_path):
    import itertools

    names = ("one", "two", "three")
    found = merged(tiny, tmp_path, "model_stock", names=names)[KEY]
    vectors = [weights(tiny, name)[KEY] for name in names]  # their base is zero here
    cosines = [float((a * b).sum() / a.norm() / b.norm()) for a, b in itertools.combinations(vectors, 2)]
    cosine = sum(cosines) / 3
    ratio = 3 * cosine / (1 + 2 * cosine)  # Jang et al. 2024, Eq. 3 for N = 3
    assert found.allclose(ratio * sum(vectors) / 3, atol=1e-5)


@pytest.mark.slow
def test_the_karcher_mean_of_two_is_slerp_half_way_with_the_mean_length(tiny, tmp_path):
    found = merged(tiny, tmp_path, "karcher", anchored=False)[KEY].flatten()
    one, two = weights(tiny, "one")[KEY].flatten(), weights(tiny, "two")[KEY].flatten()
    direction = one / one.norm() + two / two.norm()
    assert found.allclose(direction / direction.norm() * (one.norm() + two.norm()) / 2, atol=1e-4)


@pytest.mark.slow
def test_our_average_is_mergekits_linear_merge(tiny, tmp_path):
    from safetensors.torch import load_file

    theirs = merged(tiny, tmp_path, "linear", each={"weight": 1.0}, whole={"normalize": True}, anchored=False)
    stage = CombineWeights(Named("base"), (Named("one"), Named("two")), Average())
    ours = load_file(run(stage, tmp_path, tiny).out / "model.safetensors")
    assert set(ours) == set(theirs)
    assert all(ours[name].allclose(theirs[name], atol=1e-6) for name in ours)


@pytest.mark.slow
def test_merging_models_of_different_shapes_is_refused(tiny, tmp_path, toy_model):
    (tmp_path / "models").mkdir()
    for name in ("base", "one"):
        (tmp_path / "models" / name).symlink_to(tiny / name)
    (tmp_path / "models" / "wide").symlink_to(toy_model)
    stage = CombineWeights(Named("base"), (Named("one"), Named("wide")), Average())
    with pytest.raises(BadModel, match="can't be merged"):
        run(stage, tmp_path, tmp_path / "models")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "rule"), [("fisher", FisherAverage(1e-10)), ("gram", RegMean(0.9))])
def test_merging_a_model_with_itself_by_its_statistics_gives_it_back(tiny, tmp_path, kind, rule):
    from safetensors.torch import load_file

    known = WeightStatistics(Named("one"), Counting("sft"), Spend("steps", 1, 8, 64), kind, 4, 0)
    run(known, tmp_path, tiny)
    assert all(value.isfinite().all() for value in load_file(tmp_path / known.key / "statistics.safetensors").values())
    stage = CombineWeights(Named("base"), (Named("one"), Named("one")), rule, (known, known))
    found = load_file(run(stage, tmp_path, tiny).out / "model.safetensors")
    same = weights(tiny, "one")
    assert all(found[name].allclose(same[name], atol=1e-4) for name in same)


def test_rows_are_cut_at_every_place_but_the_last():
    from polm_bench.stages.merge_statistics import beginnings

    rows = [[1, 2, 3, 4]] * 64
    assert {tuple(row) for row in beginnings(rows)} == {(1,), (1, 2), (1, 2, 3)}


@pytest.mark.slow
def test_a_greedy_soup_is_never_worse_than_its_best_ingredient(tiny, tmp_path):
    from polm_bench.models.load import load_model, load_tokenizer
    from polm_bench.stages.sft import completion_rows
    from polm_bench.stages.soup import held_out_loss

    names = ("one", "two", "three")
    stage = GreedySoup(Named("base"), tuple(map(Named, names)), Counting("sft"), 8, 64)
    job = run(stage, tmp_path, tiny)
    tokenizer = load_tokenizer(job.out)
    rows = completion_rows(tokenizer, Counting("sft").load("validation"), 64)
    losses = [held_out_loss(load_model(tiny / name, "float32"), rows, tokenizer.pad_token_id, 8) for name in names]
    soup = held_out_loss(load_model(job.out, "float32"), rows, tokenizer.pad_token_id, 8)
    assert soup <= min(losses) + 1e-6
    assert job.ledger.notes["held_out_loss"] == pytest.approx(soup, abs=1e-5)
    assert losses.index(min(losses)) in job.ledger.notes["soup"]


@pytest.mark.slow
def test_adamerging_starts_at_the_prior_and_stops_at_the_spend(tiny, tmp_path):
    from safetensors.torch import load_file

    def learn(steps, amount, lr=1e-3):
        stage = LearnCoefficients(
            base=Named("base"),
            models=(Named("one"), Named("two")),
            data=(Counting("sft"), Counting("sft")),
            spend=Spend("steps", amount, 8, 64),
            steps=steps,
            batch=4,
            prior=0.3,
            lr=lr,
            seed=0,
        )
        return run(stage, tmp_path, tiny)

    job = learn(steps=500, amount=3)
    assert job.ledger.notes["steps"] == 3
    found, base = load_file(job.out / "model.safetensors")[KEY], weights(tiny, "base")[KEY]
    fixed = base + 0.3 * (weights(tiny, "one")[KEY] + weights(tiny, "two")[KEY])
    assert found.allclose(fixed, atol=3 * 1e-3 * 12)  # Adam moves a coefficient by at most its rate a step
    assert not found.equal(fixed)
    losses = [point["loss"] for point in learn(steps=30, amount=30, lr=0.1).curve_points]
    assert losses[-1] < losses[0] - 1e-3


@pytest.mark.slow
def test_fusing_with_all_weight_on_the_labels_is_plain_fine_tuning(tiny, tmp_path):
    from safetensors.torch import load_file

    spend, optim = Spend("steps", 3, 4, 64), Optim(lr=1e-2)
    fused = TrainFused(Named("base"), (Named("one"), Named("two")), Counting("sft"), spend, optim, 1.0, 0)
    plain = TrainSFT(Named("base"), Counting("sft"), spend, optim, 0)
    ours, theirs = (
        load_file(run(stage, tmp_path / type(stage).__name__, tiny).out / "model.safetensors")
        for stage in (fused, plain)
    )
    assert all(ours[name].allclose(theirs[name], atol=1e-6) for name in theirs)
    taught = TrainFused(Named("base"), (Named("one"), Named("two")), Counting("sft"), spend, optim, 0.5, 0)
    other = load_file(run(taught, tmp_path / "taught", tiny).out / "model.safetensors")
    assert any(not other[name].allclose(theirs[name], atol=1e-6) for name in theirs)


def test_domains_are_taken_in_the_alphabets_order_without_their_column():
    rows = DomainRows(role="sft", source=Counting("domains"), domains=2, place=0)
    assert len(rows.load("train")) == 8
    assert set(rows.load("train")[0]) == {"prompt", "completion"}
    assert len(DomainRows(role="sft", source=Counting("domains"), domains=2).load("train")) == 16


def test_another_number_of_domains_is_an_error_that_says_what_to_set():
    with pytest.raises(BadData, match=r"has 2 domains \(a, b\), the recipe expects 3. Set recipe.domains=2"):
        DomainRows(role="sft", source=Counting("domains"), domains=3, place=0).load("train")


def test_methods_share_their_experts():
    from polm_bench.config import plan

    trained = {
        recipe: {stage.key for stage in plan([f"+recipe={recipe}"]).stages() if type(stage).__name__ == "TrainSFT"}
        for recipe in ("ties", "slerp", "fisher_merging", "metagpt_merge")
    }
    assert len(set(map(json.dumps, map(sorted, trained.values())))) == 1
    assert len(trained["ties"]) == 3
    expert = plan(["+recipe=domain_expert", "recipe.place=1"]).graph.model.key
    assert expert in trained["ties"]


@pytest.fixture(scope="module")
def shuffled(toy_model, tmp_path_factory):
    """The toy model with every kind of its units in an order drawn at random."""
    import torch

    from polm_bench.models.load import load_model, load_tokenizer, save_model
    from polm_bench.objectives.aligning import reordered

    torch.manual_seed(0)
    model = load_model(toy_model, "float32")
    axes, counts = units(model)
    orders = {kind: torch.randperm(count) for kind, count in counts.items()}
    with torch.no_grad():
        put(model, {name: reordered(weight, axes[name], orders) for name, weight in weights_of(model).items()})
    root = tmp_path_factory.mktemp("shuffled")
    (root / "toy").symlink_to(toy_model)
    save_model(model, load_tokenizer(toy_model), root / "other")
    return root


def said(folder: Path):
    import torch

    from polm_bench.models.load import load_model

    with torch.no_grad():
        return load_model(folder, "float32")(input_ids=torch.arange(5, 29)[None]).logits


@pytest.mark.slow
@pytest.mark.parametrize("how", [WeightMatching(passes=100), Transport()], ids=lambda how: type(how).__name__)
def test_units_in_another_order_say_the_same_and_are_brought_back(shuffled, tmp_path, how):
    from safetensors.torch import load_file

    before, after = (
        load_file(shuffled / "toy" / "model.safetensors"),
        load_file(shuffled / "other" / "model.safetensors"),
    )
    assert not any(after[name].equal(before[name]) for name in before if "norm" not in name)
    assert said(shuffled / "other").allclose(said(shuffled / "toy"), atol=1e-4)
    stage = AlignUnits(Named("toy"), Named("other"), how, 0)
    job = run(stage, tmp_path, shuffled)
    found = load_file(job.out / "model.safetensors")
    assert all(found[name].equal(before[name]) for name in before)
    assert job.ledger.notes["units_moved"] > 0.9 * job.ledger.notes["units"]
    own = run(AlignUnits(Named("toy"), Named("toy"), how, 0), tmp_path, shuffled)
    assert own.ledger.notes["units_moved"] == 0
    merged = run(CombineWeights(Named("toy"), (Named("toy"), stage), Average()), tmp_path, shuffled)
    assert said(merged.out).equal(said(shuffled / "toy"))


@pytest.mark.slow
def test_units_of_a_weight_that_is_not_known_are_refused(tiny):
    import torch

    from polm_bench.models.load import load_model

    model = load_model(tiny / "one", "float32")
    for name in ("extra", "gate_up_proj"):  # what is fused has units of two kinds on one axis
        setattr(model.model.layers[0].mlp, name, torch.nn.Linear(4, 4))
        with pytest.raises(BadModel, match=rf"{name}\.weight is not known"):
            units(model)
        delattr(model.model.layers[0].mlp, name)
    assert units(model)[1] == {"stream": 4, "heads 0": 1, "units 0": 8}


@pytest.mark.slow
def test_surgery_brings_representations_nearer_and_leaves_the_weights_alone(tiny, tmp_path):
    from safetensors.torch import load_file

    def correct(expert, steps=40):
        rows = Counting("sft")
        stage = CorrectRepresentations(
            Named("one"), (Named(expert),), (rows,), Spend("steps", steps, 8, 64), 500, 4, 3, 0.01, 0
        )
        return run(stage, tmp_path, tiny)

    job = correct("two")
    losses = [point["loss"] for point in job.curve_points]
    assert job.ledger.notes["steps"] == len(losses) == 40
    assert losses[-1] < losses[0] - 1e-3
    start, found = weights(tiny, "one"), load_file(job.out / "model.safetensors")
    assert all(found[name.replace("model.norm.", "model.norm.inner.")].equal(start[name]) for name in start)
    assert job.ledger.notes["trainable_params"] == 2 * 3 * 4
    same = correct("one", steps=3)
    assert [point["loss"] for point in same.curve_points] == [0.0, 0.0, 0.0]
    assert said(same.out).equal(said(tiny / "one"))
