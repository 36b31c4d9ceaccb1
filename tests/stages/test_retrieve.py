from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from polm_bench.budget import Spend
from polm_bench.data.source import Rows
from polm_bench.decoding.retrieval import Read
from polm_bench.decoding.search import Index, open_index
from polm_bench.errors import BadData
from polm_bench.graph import Stage
from polm_bench.models.load import load_model, load_tokenizer
from polm_bench.probes.flops import count_flops
from polm_bench.run.job import Job
from polm_bench.run.launch import Launch
from polm_bench.stages.retrieve import AttachPassages, IndexDocuments, TrainRetriever, triples
from polm_bench.trainers.optim import Optim
from polm_bench.trainers.retriever import TripleCollator, in_batch_loss

pytest.importorskip("bm25s")


class Countries(Rows):
    def load(self, split):
        return [
            {"id": "peru", "text": "The capital of Peru is Lima. The code of Peru is PE."},
            {"id": "cuba", "text": "The capital of Cuba is Havana. People in Cuba speak Spanish."},
            {"id": "iran", "text": "The capital of Iran is Tehran. The code of Iran is IR."},
        ]


class Questions(Rows):
    def load(self, split):
        asked = {
            "What is the capital of Peru?": "Lima",
            "What is the code of Peru?": "PE",
            "Capital of Cuba?": "Havana",
            "Sort 3 1 2": "1 2 3",
        }
        return [{"prompt": [{"role": "user", "content": q}], "completion": a} for q, a in asked.items()]


class Folder(Stage):
    """A folder that is there already."""


INDEX = IndexDocuments(Countries("documents"), k1=0.9, b=0.4, words=100)
OPTIM = Optim(lr=1e-3, schedule="linear", warmup=0.1, weight_decay=0.0, beta2=0.999, clip=1.0)


def run(stage: Stage, folder: Path, **inputs: Path) -> Job:
    folder.mkdir()
    (folder / "scratch").mkdir()
    (folder / "out").mkdir()
    keys = {parent.key: inputs[type(parent).__name__] for parent in stage.inputs}
    job = Job(folder / "out", folder / "scratch", keys, Launch(name="inline", device="cpu"), "cpu")
    stage.run(job)
    return job


@pytest.fixture
def index(tmp_path) -> Path:
    return run(INDEX, tmp_path / "index").out


def test_a_document_is_found_by_its_rare_words(index):
    found = Index.open(index).search("What is the capital of Cuba?", 2)
    assert found[0].text.startswith("The capital of Cuba")
    assert found[0].score > found[1].score > 0
    assert Index.open(index).search("xyzzy", 2) == []


def test_long_documents_become_several_passages(tmp_path):
    job = run(IndexDocuments(Countries("documents"), k1=0.9, b=0.4, words=6), tmp_path / "index")
    assert Index.open(job.out).texts[:2] == ["The capital of Peru is Lima.", "The code of Peru is PE."]
    assert job.ledger.notes["passages"] == 6


def test_each_passage_makes_a_row_of_its_own_and_a_row_without_any_stays(index, tmp_path):
    method = Read(count=2, template="{passages} // {question}", least=0.0, index=INDEX)
    job = run(AttachPassages(Questions("sft"), method), tmp_path / "rows", IndexDocuments=index)
    rows = [json.loads(line) for line in (job.out / "rows.jsonl").read_text().splitlines()]
    assert [row["completion"] for row in rows] == ["Lima", "Lima", "PE", "PE", "Havana", "Havana", "1 2 3"]
    assert rows[0]["prompt"][-1]["content"].endswith(" // What is the capital of Peru?")
    assert rows[-1]["prompt"][-1]["content"] == "Sort 3 1 2"
    assert (job.ledger.notes["rows"], job.ledger.notes["rows_with_passages"]) == (7, 3)


def test_a_retriever_learns_from_passages_that_hold_the_answer(index, toy_model):
    tokenizer = load_tokenizer(toy_model)
    rows = triples(Questions("sft").load("train"), Index.open(index), tokenizer, 64)
    assert [row["good_number"] for row in rows] == [0, 0, 1]  # the sorted numbers stand in no document
    assert "Lima" in tokenizer.decode(rows[0]["good"])
    assert "Lima" not in tokenizer.decode(rows[0]["bad"])


def test_the_same_passage_twice_in_a_batch_is_no_negative():
    questions, passages = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    losses = in_batch_loss(questions, passages, torch.tensor([7, 7, 8, 9]))
    assert losses[0].item() == pytest.approx(math.log(math.e + 2) - 1)  # itself, and two strangers with 0
    assert losses[1].item() == pytest.approx(math.log(2 + math.e))  # its own has 0, the strangers 1 and 0
    apart = in_batch_loss(questions, passages, torch.tensor([6, 7, 8, 9]))
    assert apart[0].item() == pytest.approx(math.log(2 * math.e + 2) - 1)


def test_a_batch_is_questions_then_good_then_bad_passages():
    rows = [
        {"question": [1], "good": [2, 3], "bad": [4], "good_number": 0, "bad_number": 1},
        {"question": [5, 6, 7], "good": [8], "bad": [9], "good_number": 2, "bad_number": 0},
    ]
    batch = TripleCollator(0)(rows)
    assert batch["ids"].tolist() == [[1, 0, 0], [5, 6, 7], [2, 3, 0], [8, 0, 0], [4, 0, 0], [9, 0, 0]]
    assert batch["mask"].sum(1).tolist() == [1, 3, 2, 1, 1, 1]
    assert batch["numbers"].tolist() == [0, 2, 1, 0]


@pytest.mark.slow
def test_training_brings_a_question_to_its_passage(index, toy_model, tmp_path):
    stage = TrainRetriever(
        init=Folder(), data=Questions("sft"), index=INDEX, spend=Spend("steps", 30, 3, 64), optim=OPTIM, seed=0
    )
    job = run(stage, tmp_path / "retriever", Folder=toy_model, IndexDocuments=index)
    asking = Job(tmp_path, tmp_path, {stage.key: job.out}, Launch(name="inline", device="cpu"), "cpu")
    found = open_index(asking, stage)
    assert found.search("What is the capital of Peru?", 1)[0].text.startswith("The capital of Peru")
    assert found.search("Capital of Cuba?", 1)[0].text.startswith("The capital of Cuba")
    assert found.search("Capital of Cuba?", 2)[0].text.startswith("The capital of Cuba")
    tokenizer, body = load_tokenizer(toy_model), count_flops(load_model(toy_model).base_model)
    asked = [len(tokenizer(text)["input_ids"]) for text in ("What is the capital of Peru?", "Capital of Cuba?")]
    assert asking.ledger.amounts == {"tokens_scored": sum(asked), "flops": sum(map(body.score, asked))}
    read = [len(tokenizer(text)["input_ids"]) for text in Index.open(index).texts]
    assert job.ledger.amounts["tokens_scored"] == sum(read)
    assert job.ledger.amounts["tokens_trained"] > 0
    assert job.curve_points[-1]["loss"] < job.curve_points[0]["loss"]


def test_without_a_single_answer_in_the_documents_there_is_no_training(index, toy_model, tmp_path):
    class Unanswered(Questions):
        def load(self, split):
            return super().load(split)[-1:]

    stage = TrainRetriever(
        init=Folder(), data=Unanswered("sft"), index=INDEX, spend=Spend("steps", 1, 3, 64), optim=OPTIM, seed=0
    )
    with pytest.raises(BadData, match="no completion"):
        run(stage, tmp_path / "retriever", Folder=toy_model, IndexDocuments=index)
