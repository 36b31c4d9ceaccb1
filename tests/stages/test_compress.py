"""Smaller models: as small as asked, and in another process what they were here."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import find_spec

import pytest
import torch
from pydantic.dataclasses import dataclass
from torch.nn.modules.module import register_module_forward_hook
from transformers.models.llama.modeling_llama import LlamaMLP

from polm_bench.data.nano import VERSION
from polm_bench.data.nano.source import NanoRows
from polm_bench.errors import BadOverride
from polm_bench.graph import FORBID, Stage
from polm_bench.models.load import load_model, load_tokenizer, weight_bytes
from polm_bench.run.job import Job
from polm_bench.run.launch import Launch
from polm_bench.stages.compress import CompressModel
from polm_bench.stages.compression import (
    Calibration,
    DirectionSlicing,
    FactorWeights,
    FluctuationPruning,
    IncoherentRounding,
    LoadInBits,
    OutlierAwareRounding,
    PruneOneShot,
    PruneWeights,
    QuantizeOneShot,
    RangedRounding,
    ScaledRounding,
    TaylorPruning,
)
from polm_bench.stages.compression.layers import (
    each_layer,
    first_calls,
    linears,
    named_linears,
    sample,
    squared_gradients,
)
from polm_bench.stages.compression.oneshot import check_bits, one_shot, rescale, smoothed_by
from polm_bench.stages.compression.sparse import check_sparsity

TEXT = Calibration(samples=8, length=32)


def weights(bits: int, group: int) -> dict[str, object]:
    grid = {"num_bits": bits, "type": "int", "strategy": "group", "group_size": group, "symmetric": False}
    return {"config_groups": {"group_0": {"targets": ["Linear"], "weights": grid}}, "ignore": ["lm_head"]}


def both(bits: int) -> dict[str, object]:
    """Weights by output channel and inputs by token."""
    grid = {"num_bits": bits, "type": "int", "symmetric": False}
    group = {
        "targets": ["Linear"],
        "weights": {**grid, "strategy": "channel"},
        "input_activations": {**grid, "strategy": "token", "dynamic": True},
    }
    return {"config_groups": {"group_0": group}, "ignore": ["lm_head"]}


METHODS = {
    "svd_llm": (FactorWeights(calibration=TEXT, weighing="whitening", kept=0.5, refit=True), 0.75),
    "asvd": (FactorWeights(calibration=TEXT, weighing="activation", kept=0.5), 0.75),
    "fwsvd": (FactorWeights(calibration=TEXT, weighing="fisher", kept=0.5), 0.75),
    "flap": (FluctuationPruning(calibration=TEXT, sparsity=0.3), 0.9),
    "llm_pruner": (TaylorPruning(calibration=TEXT, sparsity=0.25, spared_first=0.125, spared_last=0.0625), 0.9),
    "slicegpt": (DirectionSlicing(calibration=TEXT, sparsity=0.3, multiple=8, damping=0.01), 0.95),
    "magnitude": (PruneWeights(calibration=None, score="magnitude", scope="module", sparsity=0.5), 0.8),
    "obd": (PruneWeights(calibration=TEXT, score="saliency", scope="model", sparsity=0.5), 0.8),
    "wanda": (PruneOneShot(calibration=TEXT, sparsity=0.5, modifiers=({"WandaPruningModifier": {}},)), 0.8),
    "sparsegpt_2_4": (
        PruneOneShot(calibration=TEXT, sparsity=0.5, pattern=(2, 4), modifiers=({"SparseGPTModifier": {}},)),
        0.8,
    ),
    "gptq": (QuantizeOneShot(calibration=TEXT, bits=4, modifiers=({"GPTQModifier": weights(4, 64)},)), 0.7),
    "awq": (
        ScaledRounding(
            calibration=TEXT, bits=4, group=64, steps=4, clip=0.5, modifiers=({"QuantizationModifier": weights(4, 64)},)
        ),
        0.7,
    ),
    "outlier_suppression_plus": (
        RangedRounding(
            calibration=TEXT, bits=6, tokens=64, steps=4, least=0.1, modifiers=({"QuantizationModifier": both(6)},)
        ),
        0.7,
    ),
    "quip": (IncoherentRounding(calibration=TEXT, bits=4, damping=0.01, rho=2.4), 0.75),
    "owq": (OutlierAwareRounding(calibration=TEXT, bits=3, damping=0.01, kept=0.02), 0.7),
    "llm_int8": (LoadInBits(calibration=None, kind="int8"), 0.75),
    "nf4": (LoadInBits(calibration=None, kind="nf4"), 0.7),
}
LIBRARY = {"wanda": "llmcompressor", "sparsegpt_2_4": "llmcompressor", "gptq": "llmcompressor", "awq": "llmcompressor"}
LIBRARY |= {"outlier_suppression_plus": "llmcompressor", "llm_int8": "bitsandbytes", "nf4": "bitsandbytes"}


class NoJob:
    """Hears of progress and of nothing else."""

    @staticmethod
    def progress(done, total, what):
        pass


@dataclass(frozen=True, config=FORBID)
class Given(Stage):
    """The toy model."""


def compress(method, folder, tmp_path):
    for name in ("out", "scratch"):
        (tmp_path / name).mkdir()
    stage = CompressModel(model=Given(), method=method, data=NanoRows("corpus", VERSION), seed=0)
    job = Job(tmp_path / "out", tmp_path / "scratch", {Given().key: folder}, Launch("inline"), "cpu")
    with layers_read() as job.read:
        stage.run(job)
    return job


@contextmanager
def layers_read():
    """Tokens of each call of a decoder layer's feed-forward part, while the block runs."""
    read = []

    def note(module, args, out):
        if isinstance(module, LlamaMLP) and args[0].device.type == "cpu":
            read.append(args[0].shape[0] * args[0].shape[1])

    handle = register_module_forward_hook(note)
    try:
        yield read
    finally:
        handle.remove()


@pytest.fixture
def rows():
    return torch.randint(3, 900, (4, 24), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model(toy_model):
    return load_model(toy_model, "float32")


ELSEWHERE = """
import json, sys, torch
from pathlib import Path
from polm_bench.models.load import load_model
from polm_bench.probes.flops import count_flops
for folder in sys.argv[1:]:
    model = load_model(Path(folder), "float32")
    with torch.inference_mode():
        logits = model(input_ids=torch.arange(3, 35)[None]).logits.double()
    print(json.dumps([logits.sum().item(), logits.std().item(), count_flops(model).score(32)]))
"""


@pytest.fixture(scope="module")
def compressed(toy_model, tmp_path_factory):
    """Every method whose library is there, on the toy model; name -> job, and what another process reads from its folder."""
    here = [name for name in METHODS if name not in LIBRARY or find_spec(LIBRARY[name])]
    jobs = {name: compress(METHODS[name][0], toy_model, tmp_path_factory.mktemp(name)) for name in here}
    folders = [str(job.out) for job in jobs.values()]
    run = subprocess.run([sys.executable, "-c", ELSEWHERE, *folders], capture_output=True, text=True, check=True)
    read = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("[")]
    return {name: (jobs[name], told) for name, told in zip(here, read, strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_it_is_smaller_on_disk_and_says_the_same_in_another_process(compressed, toy_model, name):
    if name not in compressed:
        pytest.skip(f"{LIBRARY[name]} is not installed")
    job, there = compressed[name]
    assert weight_bytes(job.out) < METHODS[name][1] * weight_bytes(toy_model)
    assert job.ledger.notes["served_bytes"] == weight_bytes(job.out)
    assert job.ledger.notes["stored"]
    assert job.ledger.notes["computed"]
    with torch.inference_mode():
        here = load_model(job.out, "float32")(input_ids=torch.arange(3, 35)[None]).logits.double()
        dense = load_model(toy_model, "float32")(input_ids=torch.arange(3, 35)[None]).logits.double()
    assert there[:2] == pytest.approx([here.sum().item(), here.std().item()], rel=1e-5)
    assert there[2] > 0  # its operations can be counted
    assert not here.equal(dense)
    assert (
        torch.nn.functional.cosine_similarity(here.flatten(), dense.flatten(), 0) > 0.3
    )  # random weights have little that can go


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_what_is_counted_is_what_went_through_the_layers(compressed, name):
    if name not in compressed:
        pytest.skip(f"{LIBRARY[name]} is not installed")
    job, method = compressed[name][0], METHODS[name][0]
    assert job.ledger.amounts.get("tokens_scored", 0) == sum(job.read) / 2  # two layers
    if method.calibration is not None:
        tokens = method.calibration.samples * method.calibration.length
        assert sum(job.read) == 2 * method.forward_passes * tokens


def test_turning_hidden_states_leaves_what_the_model_says(model, rows):
    with torch.no_grad():
        for norm in (part for name, part in model.named_modules() if name.endswith("norm")):
            norm.weight.copy_(torch.linspace(0.5, 2.0, len(norm.weight)))
        before = model(input_ids=rows).logits
        turned, _ = DirectionSlicing(TEXT, sparsity=0.0, multiple=1, damping=0.01).compress(model, None, rows, NoJob)
        after = turned(input_ids=rows).logits
    assert torch.allclose(before, after, atol=1e-4)


def test_slicing_directions_that_no_hidden_state_has_loses_nothing(model, rows):
    with torch.no_grad():
        model.get_input_embeddings().weight[:, 64:] = 0  # of 128, and the output layer's are tied to them
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[64:] = 0
            layer.mlp.down_proj.weight[64:] = 0
        before = model(input_ids=rows).logits
        sliced, _ = DirectionSlicing(TEXT, sparsity=0.5, multiple=8, damping=0.01).compress(model, None, rows, NoJob)
        after = sliced(input_ids=rows).logits
    assert sliced.model.layers[0].mlp.up_proj.in_features == 64
    assert torch.allclose(before, after, atol=1e-4)


def test_pruned_weights_come_back_as_they_were_stored(toy_model, tmp_path):
    job = compress(METHODS["magnitude"][0], toy_model, tmp_path)
    dense, sparse = load_model(toy_model, "float32"), load_model(job.out, "float32")
    with torch.inference_mode():
        sparse(input_ids=torch.arange(3, 35)[None])
    for name, part in named_linears(dense).items():
        stored = sparse.get_submodule(name).dense
        kept = stored != 0
        assert kept.float().mean() == pytest.approx(0.5, abs=1e-3)
        assert stored[kept].equal(part.weight[kept])
        assert part.weight[~kept].abs().max() <= part.weight[kept].abs().min()


@pytest.mark.slow
def test_wanda_takes_of_each_row_the_weights_of_least_size_times_input_norm(model, rows):
    pytest.importorskip("llmcompressor")
    inputs = []
    part = model.model.layers[0].self_attn.q_proj
    handle = part.register_forward_hook(lambda module, args, out: inputs.append(args[0].detach().flatten(0, 1)))
    with torch.no_grad():
        model(input_ids=rows)
    handle.remove()
    score = part.weight.detach().abs() * torch.cat(inputs).norm(dim=0)  # Sun et al. 2023, Eq. 1
    expected = score.argsort(dim=1, stable=True)[:, : score.shape[1] // 2].sort(1).values
    one_shot(
        model, None, rows, [{"WandaPruningModifier": {"sparsity": 0.5, "targets": [r"re:.*layers\.\d+\..*proj$"]}}]
    )
    gone = (part.weight == 0).nonzero()[:, 1].view(len(score), -1)
    assert gone.equal(expected)


def test_moving_scales_leaves_what_the_model_says(model, rows):
    with torch.no_grad():
        before = model(input_ids=rows).logits
        for layer in model.model.layers:
            modules = linears(layer)
            for first, names in smoothed_by(layer):
                size = modules[names[0]].in_features
                rescale(first, [modules[name] for name in names], torch.linspace(0.25, 4.0, size))
        after = model(input_ids=rows).logits
    assert torch.allclose(before, after, atol=1e-4)


@pytest.mark.slow
def test_smoothquant_leaves_what_the_model_says_before_rounding(model, rows):
    pytest.importorskip("llmcompressor")
    with torch.no_grad():
        before = model(input_ids=rows).logits
    norm = model.model.layers[0].input_layernorm.weight.detach().clone()
    one_shot(model, None, rows, [{"SmoothQuantModifier": {"smoothing_strength": 0.5}}])
    with torch.no_grad():
        assert torch.allclose(model(input_ids=rows).logits, before, atol=1e-4)
    assert not model.model.layers[0].input_layernorm.weight.equal(norm)


def test_a_sample_is_of_the_first_tokens_and_the_next_layer_reads_all(model, rows):
    first = model.model.layers[0]
    seen, following = sample(first, first_calls(model, rows), tokens=30)
    with torch.no_grad():
        x = first.input_layernorm(model.model.embed_tokens(rows)).flatten(0, 1)
    assert torch.allclose(seen["self_attn.q_proj"], x[:30])
    assert sum(call.hidden[..., 0].numel() for call in following) == rows.numel()


def test_layers_are_seen_after_the_changes_to_those_before(model, rows):
    found = {}
    for number, layer, seen in each_layer(model, rows):
        found[number] = seen["self_attn.q_proj"]
        if number == 0:
            with torch.no_grad():
                layer.mlp.down_proj.weight.zero_()
                layer.self_attn.o_proj.weight.zero_()
    assert found[0].tokens == rows.numel()
    first, second = model.model.layers
    with torch.no_grad():
        x = second.input_layernorm(model.model.embed_tokens(rows)).flatten(0, 1).double()
    assert torch.allclose(found[1].gram, x.T @ x, rtol=1e-4, atol=1e-4)
    assert first is not second


def test_squared_gradients_are_those_of_each_sequence(model, rows):
    found = squared_gradients(model, rows[:1])
    model(input_ids=rows[:1], labels=rows[:1]).loss.backward()
    for name, part in named_linears(model).items():
        assert torch.allclose(found[name], part.weight.grad**2)


def test_quips_columns_are_rescaled_before_the_hessian_is_damped():
    part = torch.nn.Linear(16, 8, bias=False)
    x = torch.randn(64, 16, generator=torch.Generator().manual_seed(0)).double() * torch.logspace(-3, 0, 16)
    gram = x.T @ x
    weight = part.weight.detach().double()
    for damping in (0.01, 0.5):
        made = IncoherentRounding(calibration=None, bits=4, damping=damping, rho=2.4).coded(part, gram)
        expected = (gram.diagonal() / gram.abs().max() / weight.pow(2).sum(0)) ** 0.25  # of H as it was seen
        assert made.balance.double().allclose(expected, rtol=1e-5)


def test_a_model_that_is_not_as_small_as_asked_is_an_error(model):
    with pytest.raises(ArithmeticError, match=r"0\.0% of the weights are zero after pruning, 50\.0% were asked for"):
        check_sparsity(model, 0.5, None)
    with torch.no_grad():
        for part in named_linears(model).values():
            part.weight[:, : part.in_features // 2] = 0
    check_sparsity(model, 0.5, None)
    with pytest.raises(ArithmeticError, match="fewer than 2 are zero"):
        check_sparsity(model, 0.5, (2, 4))
    with pytest.raises(ArithmeticError, match="has no bits after quantisation, 4 were asked for"):
        check_bits(model, 4)


@pytest.mark.slow
def test_a_modifier_that_does_nothing_in_one_shot_is_refused(model, rows):
    pytest.importorskip("llmcompressor")
    with pytest.raises(BadOverride, match="no modifier 'MagnitudePruningModifier'"):
        one_shot(model, None, rows, [{"MagnitudePruningModifier": {}}])


def test_means_of_what_is_pruned_become_biases(model, rows):
    """What a narrower feed-forward part says of its calibration text is on average what it said."""
    part, read = model.model.layers[0].mlp, []
    handle = part.register_forward_hook(lambda module, args, out: read.append(args[0]))
    with torch.no_grad():
        model(input_ids=rows)
        handle.remove()
        said, wide = part(read[0]).flatten(0, 1).mean(0), part.up_proj.out_features
        FluctuationPruning(TEXT, sparsity=0.3).compress(model, None, rows, NoJob)
        assert part.down_proj.in_features == part.up_proj.out_features < wide
        assert torch.allclose(part(read[0]).flatten(0, 1).mean(0), said, atol=1e-6)
        part.down_proj.bias.zero_()
        assert not torch.allclose(part(read[0]).flatten(0, 1).mean(0), said, atol=1e-5)


def test_the_tokenizer_comes_along(toy_model, tmp_path):
    job = compress(METHODS["magnitude"][0], toy_model, tmp_path)
    assert load_tokenizer(job.out).chat_template == load_tokenizer(toy_model).chat_template
