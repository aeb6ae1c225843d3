"""Quantiles of the Poisson distribution, against SciPy's."""

import numpy as np
import pytest
from scipy import stats

from sanarestore.degradations.poisson import poisson_quantile


@pytest.mark.parametrize("mean", [1e-6, 0.3, 1, 5.5, 11.999])
def test_poisson_quantile_is_exact_for_few_photons(mean: float) -> None:
    uniform = np.random.default_rng(2).random(20_000)
    assert np.array_equal(poisson_quantile(uniform, np.full(20_000, mean)), stats.poisson.ppf(uniform, mean))


@pytest.mark.parametrize(("mean", "equal"), [(12, 0.98), (40, 0.985), (300, 0.99), (5000, 0.995)])
def test_poisson_quantile_is_within_one_photon_for_many(mean: float, equal: float) -> None:
    uniform = np.random.default_rng(2).random(20_000)
    error = poisson_quantile(uniform, np.full(20_000, float(mean))) - stats.poisson.ppf(uniform, mean)
    assert np.abs(error).max() <= 1
    assert np.mean(error == 0) > equal


def test_poisson_quantile_at_the_ends_of_the_unit_interval() -> None:
    uniform = np.array([0.0, 2.0**-53, 1 - 2.0**-53])
    for mean in (0.0, 3.0, 11.0, 12.0, 300.0):
        photons = poisson_quantile(uniform, np.full(3, mean))
        assert np.isfinite(photons).all()
        assert (np.diff(photons) >= 0).all()
        assert (photons <= mean + 12 * np.sqrt(mean) + 20).all()
    assert not poisson_quantile(uniform, np.zeros(3)).any()


def test_poisson_quantile_grows_with_the_mean() -> None:
    mean = np.linspace(0, 40, 4001)
    for uniform in (0.01, 0.5, 0.99):
        assert (np.diff(poisson_quantile(np.full(4001, uniform), mean)) >= 0).all()
