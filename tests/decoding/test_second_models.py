"""Answers that a second model corrects, and answers that are searched with beams."""

from __future__ import annotations

import pytest
import torch

from polm_bench.decoding.correcting import Corrected, Correcting
from polm_bench.decoding.method import Question

ASK = "Better: {prompt} {answer}"


class Spoken:
    """Stands in for a model: says what `says` makes of the last turn, and counts ten tokens read and two written each time."""

    batch_size, seed = 4, 0

    def __init__(self, says):
        self.says, self.seen, self.asked, self.answered = says, [], [], []

    def likeliest(self, chats, like, begun=()):
        texts = [chat[-1]["content"] for chat in chats]
        self.seen += texts
        self.asked += [10] * len(texts)
        self.answered += [2] * len(texts)
        return [self.says(text) for text in texts]


def test_a_corrector_sees_question_and_answer_and_its_answer_is_given():
    first, second = Spoken(lambda text: " bad\n"), Spoken(lambda text: "good")
    way = Correcting(Corrected(ASK), None, None, None)
    way.second = second
    questions = [Question([{"role": "user", "content": text}], 16, ()) for text in ("How was it?", "And that?")]
    assert way.answer(first, questions) == ["good", "good"]
    assert second.seen == ["Better: How was it? bad", "Better: And that? bad"]
    assert (first.asked, first.answered) == ([10] * 4, [2] * 4)  # of both models


def test_a_corrector_that_is_not_there_is_named():
    with pytest.raises(TypeError, match="corrector"):
        Corrected(ASK).way(None)


@pytest.mark.parametrize(
    ("recipe", "kinds"),
    [
        ("sft", ["TrainSFT"]),
        ("best_of_n", ["TrainSFT", "TrainReward"]),
        ("aligner", ["TrainSFT", "TrainSFT"]),
        ("contrastive_decoding", ["TrainSFT", "FetchModel"]),
    ],
)
def test_all_models_that_an_answer_takes_are_served(recipe, kinds):
    from polm_bench.config import plan

    judge = plan([f"+recipe={recipe}"]).evaluations["self"]
    assert [type(stage).__name__ for stage in judge.served()] == kinds


@pytest.mark.slow
def test_beam_search_finds_the_likeliest_answer_where_it_keeps_all_beginnings(toy_model):
    from polm_bench.decoding.searching import BeamLM
    from polm_bench.models.load import load_model, load_tokenizer

    model, tokenizer = load_model(toy_model), load_tokenizer(toy_model)
    prompt, beams = torch.tensor([[5, 6, 7]]), 40
    lm = BeamLM(model, tokenizer, 4, lambda *_: None, beams)
    with torch.inference_mode():
        first = model(prompt).logits[0, -1].log_softmax(-1)
        begun = torch.cat([prompt.expand(len(first), -1), torch.arange(len(first))[:, None]], 1)
        second = model(begun).logits[:, -1].log_softmax(-1)
    whole = first[:, None] + second
    whole[tokenizer.eos_token_id] = -torch.inf  # it ends there
    kept = first.topk(beams).indices
    best = kept[whole[kept].max(1).values.argmax()]
    found = lm._model_generate(prompt, 5, [], attention_mask=torch.ones_like(prompt))
    assert found[0, 3:].tolist() == [best.item(), whole[best].argmax().item()]
    assert lm.answered == [2] * beams
    assert lm.asked == [3] * beams
