"""The embedded model in 8 bits: no seams, flat fields as they are, smooth gradients without steps, quality kept."""

import numpy as np
import numpy.typing as npt
import pytest

from sanarestore.engine.restorer import Restorer
from sanarestore.kernels import int8_convolution
from tests.conftest import photo

pytestmark = pytest.mark.skipif(not int8_convolution.available(), reason="this processor has no 8-bit convolutions")

Array = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def in_float() -> Restorer:
    return Restorer()


@pytest.fixture(scope="module")
def in_int8() -> Restorer:
    return Restorer(dtype="int8")


def noisy(sigma: float, seed: int = 0) -> tuple[Array, Array]:
    clean = photo(192, 256, seed)
    noise = np.random.default_rng(seed).normal(0, sigma / 255, clean.shape)
    return clean, (clean + noise).clip(0, 1).astype(np.float32)


def psnr(one: Array, other: Array) -> float:
    return float(-10 * np.log10(np.square(one - other).mean()))


@pytest.mark.parametrize("sigma", [0, 5, 25, 50])
def test_it_is_near_the_result_in_floats(in_float: Restorer, in_int8: Restorer, sigma: float) -> None:
    clean, given = noisy(sigma)
    expected, found = in_float(given), in_int8(given)
    assert not np.array_equal(expected, found)
    assert 255 * np.sqrt(np.square(expected - found).mean()) < 0.5
    if sigma:
        assert psnr(found, clean) > psnr(expected, clean) - 0.05


def test_tiles_equal_the_whole(in_int8: Restorer) -> None:
    given = noisy(25)[1]
    tiled = Restorer(dtype="int8", tile=64)(given)
    assert np.abs(tiled - in_int8(given)).max() < 1e-4


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (0, 0, 255), (200, 17, 90)])
def test_flat_fields_stay(in_int8: Restorer, colour: tuple[int, int, int]) -> None:
    flat = np.full((64, 80, 3), colour, np.uint8)
    assert np.array_equal(in_int8(flat), flat)


def test_smooth_16_bit_skies_get_no_steps(in_int8: Restorer) -> None:
    """A gradient over a third of the range: no step between neighbours is larger by more than half an 8-bit code."""
    rows = np.linspace(0.45, 0.8, 256)[:, None, None] * np.array([0.6, 0.8, 1.0])
    sky = np.broadcast_to(np.rint(rows * 65535), (256, 192, 3)).astype(np.uint16)
    restored = in_int8(sky)
    assert restored.dtype == np.uint16
    before, after = (np.abs(np.diff(each.astype(np.int64), axis=0)).max() for each in (sky, restored))
    assert after < before + 128
