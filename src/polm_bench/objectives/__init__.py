"""Preference objectives: frozen values that are their own schema and identity, and pure functions of log-probs."""

from polm_bench.objectives.base import ListLogps, ListObjective, PairLogps, PairObjective, UnpairedLogps, WholeBatch
from polm_bench.objectives.classify import BCO, NCA, SPPO, UNA, APODown, APOZero
from polm_bench.objectives.combined import CPO, ORPO
from polm_bench.objectives.divergence import AlphaDPO, DiscoPOP, ForwardKLDPO, JensenShannonDPO
from polm_bench.objectives.dpo import DPO
from polm_bench.objectives.hinge import HingeDPO, SLiC
from polm_bench.objectives.ipo import IPO
from polm_bench.objectives.kto import KTO, APOZeroUnpaired
from polm_bench.objectives.length import LDDPO, RDPO, NormalizedDPO
from polm_bench.objectives.mixture import ChosenLikelihood, Mixture, Term
from polm_bench.objectives.one_sided import DPOP, NPO
from polm_bench.objectives.ranking import D2O, PRO, RRHF, TPO, LiPO, PlackettLuce
from polm_bench.objectives.simpo import AlphaPO, SimPO
from polm_bench.objectives.soft_labels import DNO, EXO, ConservativeDPO, RobustDPO
from polm_bench.objectives.token import TDPO1, TDPO2, WPO, PairwiseCringe
from polm_bench.objectives.transport import AOT, AOTUnpaired

__all__ = [
    "AOT",
    "BCO",
    "CPO",
    "D2O",
    "DNO",
    "DPO",
    "DPOP",
    "EXO",
    "IPO",
    "KTO",
    "LDDPO",
    "NCA",
    "NPO",
    "ORPO",
    "PRO",
    "RDPO",
    "RRHF",
    "SPPO",
    "TDPO1",
    "TDPO2",
    "TPO",
    "UNA",
    "WPO",
    "AOTUnpaired",
    "APODown",
    "APOZero",
    "APOZeroUnpaired",
    "AlphaDPO",
    "AlphaPO",
    "ConservativeDPO",
    "DiscoPOP",
    "ForwardKLDPO",
    "HingeDPO",
    "JensenShannonDPO",
    "LiPO",
    "ChosenLikelihood",
    "ListLogps",
    "ListObjective",
    "Mixture",
    "NormalizedDPO",
    "PairLogps",
    "PairObjective",
    "PairwiseCringe",
    "PlackettLuce",
    "RobustDPO",
    "SLiC",
    "SimPO",
    "Term",
    "UnpairedLogps",
    "WholeBatch",
]
