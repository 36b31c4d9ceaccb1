"""FuseLLM's loss: each row learns from the teacher that knows it best."""

from __future__ import annotations

import math

import pytest
import torch

from polm_bench.objectives.fusion import fused_loss


def logits(*probabilities: list[float]) -> torch.Tensor:
    """[1, T, V] with these distributions."""
    return torch.tensor([probabilities]).log()


def test_the_teacher_with_the_least_cross_entropy_on_the_row_is_taken_whole():
    student = logits([0.5, 0.5], [0.5, 0.5])
    sharp, blunt = logits([0.9, 0.1], [0.9, 0.1]), logits([0.99, 0.01], [0.2, 0.8])
    labels = torch.tensor([[0, 0]])  # sharp: 2 * -log 0.9; blunt: -log 0.99 - log 0.2, which is more
    found = fused_loss(student, torch.stack([blunt, sharp]), labels, label_weight=0.9)
    kl = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert found[0].tolist() == pytest.approx([0.9 * math.log(2) + 0.1 * kl] * 2, rel=1e-5)


def test_a_student_that_is_its_teacher_pays_for_labels_only_and_nothing_where_nothing_is_learnt():
    student = logits([0.3, 0.7], [0.6, 0.4])
    found = fused_loss(student, student[None], torch.tensor([[1, -100]]), label_weight=0.5)
    assert found[0].tolist() == pytest.approx([0.5 * -math.log(0.7), 0.0], rel=1e-5)
