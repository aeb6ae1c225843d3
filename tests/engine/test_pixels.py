"""Pixels on their way into the stages."""

import numpy as np
import pytest

from sanarestore import images
from sanarestore.engine.pixels import enlarge, host_tensor, is_finite
from tests.conftest import photo


def test_an_enlargement_keeps_depth_alpha_and_what_is_where() -> None:
    alpha = np.full((20, 30), 200, dtype=np.uint8)
    image = images.Image(pixels_HWC=photo(20, 30), depth="uint8", format="png", alpha_HW=alpha)
    assert enlarge(image, 1) is image
    larger = enlarge(image, 4)
    assert (larger.height, larger.width, larger.depth) == (80, 120, "uint8")
    assert larger.alpha_HW is not None
    assert larger.alpha_HW.dtype == np.uint8
    assert (larger.alpha_HW == 200).all()
    assert np.abs(larger.pixels_HWC[2::4, 2::4] - image.pixels_HWC).mean() < 0.02


@pytest.mark.parametrize("channels", [1, 3])
def test_a_tensor_is_a_view_of_three_channels(channels: int) -> None:
    pixels = np.ascontiguousarray(photo(5, 7)[..., :channels])
    tensor = host_tensor(images.Image(pixels_HWC=pixels, depth="float32", format="tiff"))
    assert tensor.shape == (3, 5, 7)
    pixels[2, 3, 0] = 0.125
    assert tensor[0, 2, 3] == 0.125
    assert channels == 3 or tensor[2, 2, 3] == 0.125


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_no_number_is_found(bad: float) -> None:
    pixels = photo(9, 9)
    assert is_finite(pixels)
    pixels[4, 5, 1] = bad
    assert not is_finite(pixels)
