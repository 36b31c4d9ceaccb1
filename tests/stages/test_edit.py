"""Editing on the toy model: the new answer is learnt, bounds hold, budgets end, and what is scored is what happened."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic.dataclasses import dataclass

from polm_bench.budget import Spend
from polm_bench.data.source import Rows
from polm_bench.graph import FORBID, Stage
from polm_bench.objectives.editing import Likelihood, PatchLoss
from polm_bench.run.job import Job, silent
from polm_bench.run.launch import Launch
from polm_bench.stages.edit import HELD_LENGTH, Batches, EditByTraining, Hold, Place, answer_loss
from polm_bench.stages.edit_blocks import EditBlocks
from polm_bench.stages.edit_located import EditLocated, ValueSearch
from polm_bench.stages.edit_memory import EditMemory, arrange
from polm_bench.stages.edit_neurons import KnowledgeNeurons, chance
from polm_bench.stages.edit_patch import EditPatches
from polm_bench.stages.edit_scores import EditScores
from polm_bench.stages.facts import FACTS, PickFacts, pick

DOWN = r"layers\.{layer}\.mlp\.down_proj\.weight$"


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def fact(subject: str, relation: str = "capital", near: str = "Chad") -> dict:
    return {
        "prompt": asked(f"What is the {relation} of {subject}?"),
        "subject": subject,
        "old": "Rome",
        "new": "Paris",
        "paraphrases": [asked(f"Name the {relation} of {subject}.")],
        "neighbours": [{"prompt": asked(f"What is the {relation} of {near}?"), "answer": "Lima"}],
    }


@dataclass(frozen=True, config=FORBID)
class Given(Stage):
    """Stands for a model folder that the test has."""

    name: str = "toy"


@dataclass(frozen=True, config=FORBID)
class Facts(Rows):
    """Facts to edit, and text that is to stay."""

    def load(self, split):
        if self.role == "corpus":
            return [{"text": "The river is wide and the bridge is old, so people walk slowly over it. " * 4}] * 6
        if self.role == "sft":
            return [{"prompt": asked(f"How many are {n}?"), "completion": f"{n} of them."} for n in range(8)]
        return [fact("Italy"), fact("Spain"), fact("Peru", near="Cuba")]


SEARCH = ValueSearch(steps=20, lr=0.5, kl=0.0625, decay=1e-3, clamp=50.0, enough=0.05, contexts=1, words=3)
PICKED = PickFacts(Given(), Facts("facts"), 3, 0)


def edit_by_training(
    spend=Spend("steps", 100, 4, 64), passes=60, bound=None, hold=None, weights=DOWN, ensemble=None, slots=None
):
    return EditByTraining(
        init=Given(),
        facts=PICKED,
        place=Place(weights, 0.6),
        loss=Likelihood(),
        spend=spend,
        lr=0.01,
        passes=passes,
        enough=0.01,
        seed=0,
        bound=bound,
        hold=hold,
        ensemble=ensemble,
        slots=slots,
    )


def edit_located(method, spend=Spend("steps", 500, 4, 64)):
    return EditLocated(
        init=Given(),
        facts=PICKED,
        corpus=Facts("corpus"),
        method=method,
        depths=(0.0,),  # what the last of two layers adds at the subject reaches no later token
        search=SEARCH,
        moment_rows=4,
        moment_weight=0.01,
        spend=spend,
        seed=0,
    )


def edit_memory(spend=Spend("steps", 500, 4, 64)):
    return EditMemory(init=Given(), facts=PICKED, depth=0.0, radius=0.01, lr=0.3, steps=100, spend=spend, seed=0)


def edit_blocks(spend=Spend("steps", 500, 4, 64), group=2):
    return EditBlocks(
        init=Given(),
        facts=PICKED,
        depth=0.0,
        layers=2,
        group=group,
        rank=4,
        radius=0.01,
        lr=0.1,
        steps=100,
        spend=spend,
        seed=0,
    )


def edit_patches(spend=Spend("steps", 500, 4, 64), facts=PICKED):
    return EditPatches(
        init=Given(),
        facts=facts,
        memory=Facts("sft"),
        memory_rows=8,
        loss=PatchLoss(active=1.0, memory=10.0, quiet=-3.0, margin=3.0, own_top=5, memory_top=1000),
        spend=spend,
        lr=1e-2,
        amplify=10.0,
        clip=5.0,
        steps=150,
        most=5,
        enough=0.1,
        seed=0,
    )


@pytest.fixture(scope="module")
def world(toy_model, tmp_path_factory):
    """Folder with the toy model and the picked facts; stages run into it by their key."""
    root = tmp_path_factory.mktemp("world")
    (root / Given().key).symlink_to(toy_model)
    run(PICKED, root)
    return root


def run(stage: Stage, root: Path) -> Job:
    out, scratch = root / stage.key, root / "scratch"
    out.mkdir(exist_ok=True)
    scratch.mkdir(exist_ok=True)
    job = Job(out, scratch, {one.key: root / one.key for one in stage.inputs}, Launch("inline"), "cpu", silent)
    stage.run(job)
    return job


def scores(root: Path, model: Stage) -> dict[tuple[str, str], float]:
    job = run(EditScores(model, PICKED, tokens=5), root)
    return {(one["task"], one["metric"]): one["value"] for one in json.loads((job.out / "scores.json").read_text())}


def knows(*rows: dict) -> set[tuple[str, str]]:
    return {(json.dumps(row["prompt"]), row["old"]) for row in rows}


def test_known_facts_come_first_half_of_them_at_most_and_a_subject_comes_once():
    rows = [fact("Italy"), fact("Italy", "code"), fact("Spain"), fact("Peru"), fact("Cuba")]
    chosen = pick(rows, knows(rows[0], rows[1], rows[3]), 3, seed=0)
    assert {row["subject"] for row in chosen[:2]} == {"Italy", "Peru"}
    assert chosen[2]["subject"] in {"Spain", "Cuba"}
    assert [row["subject"] for row in pick(rows, set(), 5, seed=0)].count("Italy") == 2


def test_a_neighbour_that_is_edited_is_left_out_and_one_that_is_known_is_marked():
    rows = [fact("Italy", near="Spain"), fact("Spain"), fact("Peru", near="Cuba")]
    known = {(json.dumps(asked("What is the capital of Chad?")), "Lima")}
    chosen = {row["subject"]: row["neighbours"] for row in pick(rows, known, 3, seed=0)}
    assert chosen["Italy"] == []
    assert [one["known"] for one in chosen["Spain"]] == [True]
    assert [one["known"] for one in chosen["Peru"]] == [False]


def test_known_facts_that_are_not_edited_become_neighbours():
    rows = [fact("Italy"), fact("Spain"), fact("Peru"), fact("Cuba")]
    chosen = pick(rows, knows(*rows), 2, seed=0)
    edited = {row["subject"] for row in chosen}
    near = [one["prompt"][0]["content"] for row in chosen for one in row["neighbours"] if one["known"]]
    assert len(near) == 2
    assert not any(subject in text for subject in edited for text in near)


def test_a_codebook_grows_over_the_same_answer_and_shrinks_before_another():
    import torch

    keys = torch.tensor([[0.0], [1.5], [10.0], [10.6]])
    book = arrange(keys, [(1,), (1,), (2,), (3,)], radius=1.0)
    assert book.rows == [0, 2, 3]  # the second is within 1 + 1 of the first and says the same
    assert book.radii == pytest.approx([1.5, 0.3, 0.3])


@pytest.mark.slow
def test_editing_by_training_learns_the_new_answers_within_its_bound(world):
    from safetensors.torch import load_file

    free = edit_by_training()
    job = run(free, world)
    before = scores(world, Given())
    after = scores(world, free)
    assert after["edit_efficacy", "exact_match"] == 1.0 > before["edit_efficacy", "exact_match"]
    assert after["edit_efficacy", "preferred"] == 1.0
    assert job.ledger.amounts["tokens_trained"] > 0
    tight = run(edit_by_training(bound=1e-3), world)
    start = load_file(world / Given().key / "model.safetensors")
    found = load_file(tight.out / "model.safetensors")
    changed = [name for name in start if not found[name].equal(start[name].float())]
    assert changed == ["model.layers.1.mlp.down_proj.weight"]
    assert max(float((found[name] - start[name]).abs().max()) for name in changed) <= 1e-3 + 1e-7


@pytest.mark.slow
def test_an_edit_stops_where_its_spend_ends(world):
    assert run(edit_by_training(Spend("steps", 2, 2, 64)), world).ledger.notes["steps"] == 2
    assert run(edit_located("rome", Spend("steps", 3, 4, 64)), world).ledger.notes["steps"] == 3
    assert run(edit_memory(Spend("steps", 2, 4, 64)), world).ledger.notes["steps"] == 2
    assert run(edit_patches(Spend("steps", 2, 4, 64)), world).ledger.notes["steps"] == 2
    assert run(edit_blocks(Spend("steps", 2, 4, 64)), world).ledger.notes["steps"] == 2


@pytest.mark.slow
def test_holding_the_rest_costs_less_drift(world):
    import torch

    from polm_bench.models.load import load_model, load_tokenizer

    hold = Hold(forget=0.0, retain=5.0, rows=Facts("corpus"))
    jobs = [run(edit_by_training(passes=15, hold=one), world) for one in (None, hold)]
    read = [job.ledger.amounts.get("tokens_scored", 0) for job in jobs]
    assert read == [0, jobs[1].ledger.notes["steps"] * 3 * HELD_LENGTH]  # the start reads a row of text for each fact
    tokenizer = load_tokenizer(world / Given().key)
    ids = tokenizer(Facts("corpus").load("train")[0]["text"], return_tensors="pt")["input_ids"][:, :64]
    start, plain, held = (
        load_model(folder, "float32")(input_ids=ids).logits.log_softmax(-1)
        for folder in (world / Given().key, *(job.out for job in jobs))
    )

    def kl(other):
        return float((start.exp() * (start - other)).sum(-1).mean())

    with torch.no_grad():
        assert kl(held) < kl(plain)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rome", "memit"])
def test_located_edits_make_the_new_answer_likelier_than_the_old(world, method):
    from safetensors.torch import load_file

    stage = edit_located(method)
    job = run(stage, world)
    assert job.ledger.notes["edited"] == 3
    after = scores(world, stage)
    assert after["edit_efficacy", "preferred"] == 1.0
    start, found = (load_file(f / "model.safetensors") for f in (world / Given().key, job.out))
    changed = {name for name in start if not found[name].equal(start[name].float())}
    assert changed == {"model.layers.0.mlp.down_proj.weight"}


@pytest.mark.slow
def test_the_subjects_last_token_is_found_in_a_conversation(toy_model):
    from polm_bench.models.load import load_tokenizer
    from polm_bench.models.lookup import subject_place

    tokenizer = load_tokenizer(toy_model)
    text = tokenizer.apply_chat_template(asked("What is the capital of Sri Lanka?"), tokenize=False)
    ids, place = subject_place(tokenizer, text, "Sri Lanka")
    assert tokenizer.decode(ids[: place + 1]).endswith("Sri Lanka")
    assert not tokenizer.decode(ids[:place]).endswith("Sri Lanka")


@pytest.mark.slow
def test_a_codebook_changes_the_edited_questions_and_nothing_else(world):
    import torch

    from polm_bench.models.chat import encode_prompts
    from polm_bench.models.load import load_model, load_tokenizer
    from polm_bench.probes.flops import count_flops

    stage = edit_memory()
    job = run(stage, world)
    after = scores(world, stage)
    assert after["edit_efficacy", "preferred"] == 1.0  # a random model's logits don't reach far enough for more
    assert after["edit_locality", "preferred"] == scores(world, Given())["edit_locality", "preferred"]
    tokenizer = load_tokenizer(job.out)
    ids = tokenizer("The river is wide and the bridge is old.", return_tensors="pt")["input_ids"]
    start, edited = (load_model(folder, "float32") for folder in (world / Given().key, job.out))
    with torch.no_grad():
        assert torch.equal(start(input_ids=ids).logits, edited(input_ids=ids).logits)
    spent, prompts = job.ledger.amounts, encode_prompts(tokenizer, [row["prompt"] for row in Facts("facts").load("")])
    assert spent["tokens_scored"] == sum(map(len, prompts))  # for the keys
    forwards = count_flops(start).score(1) * (spent["tokens_scored"] + spent["tokens_trained"])
    assert spent["flops"] > 1.3 * forwards  # the way back to the memory is paid for


@pytest.mark.slow
def test_scores_say_how_many_items_they_have_and_agree_with_them(world):
    import pyarrow.parquet as pq

    job = run(EditScores(Given(), PICKED, tokens=5), world)
    items = pq.read_table(job.out / "items.parquet").to_pylist()
    found = json.loads((job.out / "scores.json").read_text())
    assert {one["task"] for one in found} == set(EditScores.tasks)
    for one in found:
        values = [i["score"] for i in items if (i["task"], i["metric"]) == (one["task"], one["metric"])]
        assert one["n"] == len(values)
        assert one["value"] == pytest.approx(sum(values) / len(values))
    assert {one["n"] for one in found if one["task"] == "edit_locality"} == {2}  # two edits share a neighbour
    kept = [
        near["prompt"] for row in json.loads((world / PICKED.key / FACTS).read_text()) for near in row["neighbours"]
    ]
    assert len(kept) == 3
    assert len(json.loads((world / PICKED.key / FACTS).read_text())) == 3


def logits_of(folder, text):
    """What a model folder, loaded from disk, says to a text."""
    import torch

    from polm_bench.models.load import load_model, load_tokenizer

    with torch.no_grad():
        return load_model(folder, "float32")(**load_tokenizer(folder)(text, return_tensors="pt")).logits


@pytest.mark.slow
def test_patches_say_the_new_answers_and_leave_the_weights_alone(world):
    from safetensors.torch import load_file

    stage = edit_patches()
    job = run(stage, world)
    after = scores(world, stage)
    assert after["edit_efficacy", "exact_match"] == 1.0 > scores(world, Given())["edit_efficacy", "exact_match"]
    start, found = (load_file(f / "model.safetensors") for f in (world / Given().key, job.out))
    assert all(found[name.replace("1.mlp.", "1.mlp.inner.")].equal(start[name].float()) for name in start)
    added = {name: weight.shape for name, weight in found.items() if ".down." in name or ".up." in name}
    assert set(added.values()) == {
        (job.ledger.notes["patches"], 128),
        (job.ledger.notes["patches"],),
        (128, job.ledger.notes["patches"]),
        (128,),
    }


@pytest.mark.slow
def test_what_is_said_already_gets_no_patch_and_no_patch_leaves_the_start_to_the_bit(world):
    rows = json.loads((world / PICKED.key / FACTS).read_text())
    made = []
    for seed, told in enumerate(([], rows[:1], [rows[0], rows[0]]), 1):
        facts = PickFacts(Given(), Facts("facts"), 3, seed)
        (world / facts.key).mkdir()
        (world / facts.key / FACTS).write_text(json.dumps(told))
        made.append(run(edit_patches(facts=facts), world))
    nothing, once, twice = made
    text = "The river is wide."
    assert logits_of(nothing.out, text).equal(logits_of(world / Given().key, text))
    assert once.ledger.notes["patches"] == twice.ledger.notes["patches"] > 0
    assert logits_of(once.out, text).equal(logits_of(twice.out, text))


@pytest.mark.slow
def test_attributions_add_up_to_what_the_weights_do_to_the_chance(world):
    """Completeness of integrated gradients: their sum is P(all weights) - P(none of them)."""
    import torch

    from polm_bench.models.load import load_model, load_tokenizer
    from polm_bench.probes.flops import count_flops
    from polm_bench.trainers.purse import Purse

    folder, spend = world / Given().key, Spend("steps", 1000, 4, 64)
    model = load_model(folder, "float32")
    facts = json.loads((world / PICKED.key / FACTS).read_text())
    batches = Batches(spend, load_tokenizer(folder), facts, [], model.device)
    purse = Purse(spend, count_flops(model))
    weight = model.get_parameter("model.layers.1.mlp.down_proj.weight")
    model.requires_grad_(False)
    weight.requires_grad_(True)
    before = weight.detach().clone()
    found = KnowledgeNeurons(points=32, kept=0.1, look=0.9).attribution(model, batches, purse)
    assert weight.equal(before)
    (batch,) = batches.each(purse)
    with torch.no_grad():
        whole = answer_loss(model, batch["new"], chance)
        weight.zero_()
        none = answer_loss(model, batch["new"], chance)
    assert float(found["model.layers.1.mlp.down_proj.weight"].sum()) == pytest.approx(float(whole - none), rel=0.05)


@pytest.mark.slow
def test_an_ensemble_is_all_that_an_edit_moves(world):
    from safetensors.torch import load_file

    stage = edit_by_training(ensemble=KnowledgeNeurons(points=2, kept=0.1, look=0.25))
    job = run(stage, world)
    start, found = (load_file(f / "model.safetensors") for f in (world / Given().key, job.out))
    moved = {name: int((found[name] != start[name]).sum()) for name in start}
    assert {name for name, count in moved.items() if count} == {"model.layers.1.mlp.down_proj.weight"}
    assert sum(moved.values()) <= job.ledger.notes["trainable_params"] == int(0.1 * 128 * 256)
    assert scores(world, stage)["edit_efficacy", "preferred"] == 1.0
    short = edit_by_training(Spend("steps", 4, 2, 64), ensemble=KnowledgeNeurons(points=2, kept=0.1, look=0.25))
    assert run(short, world).ledger.notes["steps"] == 4


@pytest.mark.slow
def test_slots_learn_the_new_answers_beside_a_model_that_stays(world):
    from safetensors.torch import load_file

    stage = edit_by_training(slots=16, weights=r"layers\.{layer}\.mlp\.(down|up)\.weight$")
    job = run(stage, world)
    assert job.ledger.notes["trainable_params"] == 2 * 16 * 128
    assert scores(world, stage)["edit_efficacy", "exact_match"] == 1.0
    start, found = (load_file(f / "model.safetensors") for f in (world / Given().key, job.out))
    assert all(found[name.replace("1.mlp.", "1.mlp.inner.")].equal(start[name].float()) for name in start)
    assert found["model.layers.1.mlp.down.bias"].abs().max() == found["model.layers.1.mlp.up.bias"].abs().max() == 0


@pytest.mark.slow
def test_blocks_answer_where_they_are_found_and_nowhere_else(world):
    from polm_bench.models.load import load_model
    from polm_bench.probes.flops import count_flops

    stage = edit_blocks()
    job = run(stage, world)
    assert job.ledger.notes["blocks"] == 2  # of three facts, two to a block
    spent, model = job.ledger.amounts, load_model(world / Given().key, "float32")
    assert spent["tokens_scored"] > 0  # for the keys
    forwards = count_flops(model).score(1) * (spent["tokens_scored"] + spent["tokens_trained"])
    assert spent["flops"] > 1.15 * forwards  # the way back to the blocks is paid for
    assert scores(world, stage)["edit_efficacy", "preferred"] == 1.0
    text = "The river is wide and the bridge is old."
    assert logits_of(job.out, text).equal(logits_of(world / Given().key, text))


def test_a_token_takes_the_block_of_the_nearest_key_within_reach():
    import torch

    from polm_bench.models.blocks import router, with_blocks

    torch.manual_seed(0)
    find = router(torch.nn.Linear(2, 3), entries=3)
    find.keys.data.copy_(torch.tensor([[0.0, 0.0], [4.0, 0.0], [9.0, 9.0]]))
    find.radii.data.copy_(torch.tensor([1.0, 2.0, -1.0]))
    find.blocks.copy_(torch.tensor([1, 0, 1]))
    inputs = torch.tensor([[[0.5, 0.5], [2.5, 0.0], [9.0, 9.0]]])
    find(inputs)
    assert find.chosen.tolist() == [[1, 0, -1]]
    plain = torch.nn.Linear(2, 3)
    layer = with_blocks(plain, find, blocks=2, rank=1)
    layer.down.data.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    layer.up.data.copy_(torch.tensor([[1.0, 10.0], [0.0, 0.0], [0.0, 20.0]]))
    added = (layer(inputs) - plain(inputs))[0]
    assert torch.allclose(added, torch.tensor([[5.0, 0.0, 10.0], [2.5, 0.0, 0.0], [0.0, 0.0, 0.0]]), atol=1e-6)
