"""Student's distribution without the import of scipy.stats."""

from __future__ import annotations

from statistics import NormalDist


def student_quantile(freedom: float, level: float) -> float:
    """Quantile of Student's t; from 30 degrees of freedom by expansion in their inverse, good to 1e-6."""
    if freedom >= 30:  # spares the import of scipy.special, most of a second
        z = NormalDist().inv_cdf(level)
        first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
        third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
        fourth = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
        # Abramowitz and Stegun 1964, 26.7.5
        return z + first / freedom + second / freedom**2 + third / freedom**3 + fourth / freedom**4
    from scipy.special import stdtrit  # scipy.stats takes three times as long to import

    return float(stdtrit(freedom, level))


def student_tail(freedom: float, t: float) -> float:
    """Two-sided p-value of Student's t."""
    from scipy.special import stdtr

    return float(2 * stdtr(freedom, -abs(t)))


def chance_above(mean: float, error: float, freedom: float) -> float:
    """Chance that a quantity estimated as `mean` with this standard error lies above zero, by Student's t; 0 or 1 without an error."""
    if error == 0:
        return float(mean >= 0)
    tail = student_tail(freedom, mean / error) / 2
    return 1 - tail if mean >= 0 else tail
