"""Learning from several teachers at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def fused_loss(student: Tensor, teachers: Tensor, labels: Tensor, label_weight: float) -> Tensor:
    """Loss per token in nats, [B, T], zero where `labels` [B, T] are -100.

    Wan et al. 2024, FuseLLM (arXiv:2401.10491), with MinCE: of a row's teachers the one with the least cross-entropy on the row's
    labels is taken whole, P. label_weight * -log Q(label) + (1 - label_weight) * KL(P || Q)
    Logits: student [B, T, V], teachers [K, B, T, V] with the student's vocabulary, so that no tokens need aligning.
    """
    import torch
    import torch.nn.functional as F

    counted = labels != -100
    target = labels.clamp(min=0)
    log_q = student.float().log_softmax(-1)
    log_p = teachers.float().log_softmax(-1)
    wrong = -log_p.gather(-1, target.expand(len(teachers), *target.shape)[..., None])[..., 0] * counted
    best = wrong.sum(-1).argmin(0)
    chosen = log_p[best, torch.arange(len(best), device=best.device)]
    nll = -log_q.gather(-1, target[..., None])[..., 0]
    divergence = F.kl_div(log_q, chosen, log_target=True, reduction="none").sum(-1)
    return (label_weight * nll + (1 - label_weight) * divergence) * counted
