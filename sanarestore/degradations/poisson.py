"""Quantiles of the Poisson distribution, which make photon noise monotone in light."""

import numpy as np
import numpy.typing as npt


def poisson_quantile(uniform: npt.NDArray[np.float64], mean: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Smallest k with P(X <= k) >= u for X ~ Poisson(mean): monotone in u and mean, one draw a pixel.

    Exact below a mean of 12; above it the Cornish-Fisher expansion to third order, rounded, which is within one
    photon of the exact quantile (equal in 99% of draws) and several times as fast. `uniform` lies in [0, 1).
    """
    from scipy import special

    # A generator may return 0, where the normal quantile is minus infinity; the next larger draw is 2^-53.
    normal = special.ndtri(np.maximum(uniform, 2.0**-54))
    spread = np.sqrt(mean)
    third = (normal**2 - 1) / 6 - (normal**3 - normal) / (72 * np.maximum(spread, 1))
    photons = np.rint(mean + spread * normal + third)
    few = mean < 12
    photons[few] = _count_few(uniform[few], mean[few])
    counts: npt.NDArray[np.float64] = np.maximum(photons, 0)
    return counts


def _count_few(uniform_N: npt.NDArray[np.float64], mean_N: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Quantile by summing probabilities, for means below 12 (no double below 1 lies beyond 60 photons)."""
    photons_N = np.zeros_like(mean_N)
    index, uniform, mean = np.arange(len(mean_N)), uniform_N, mean_N
    chance = np.exp(-mean)
    below = chance.copy()
    for count in range(1, 61):
        more = uniform > below
        index = index[more]
        uniform, mean, chance, below = (each[more] for each in (uniform, mean, chance, below))
        photons_N[index] = count
        chance = chance * mean / count
        below = below + chance
    return photons_N
