"""Tests of images: conversion from and to stored channels, and permitted sizes."""

from dataclasses import replace

import numpy as np
import pytest

from sanarestore.errors import UnreadableImage
from sanarestore.images.image import MAXIMUM_PIXELS, check_size, from_stored, to_stored
from tests.images.conftest import photograph


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_stored_channels_survive_a_round_trip(channels):
    image = photograph("uint16", channels, "tiff")
    rebuilt = from_stored(to_stored(image), format="tiff", metadata=image.metadata)
    assert np.array_equal(rebuilt.pixels_HWC, image.pixels_HWC)
    assert (rebuilt.alpha_HW is None) == (channels in (1, 3))
    if image.alpha_HW is not None:
        assert np.array_equal(rebuilt.alpha_HW, image.alpha_HW)


def test_alpha_is_converted_to_the_chosen_depth():
    image = photograph("uint8", 4, "png")
    stored = to_stored(replace(image, depth="uint16"))
    assert stored.dtype == np.uint16
    assert np.array_equal(stored[..., 3], image.alpha_HW.astype(np.uint16) * 257)


@pytest.mark.parametrize(("height", "width"), [(0, 5), (5, 0), (2**15 + 1, MAXIMUM_PIXELS // 2**15)])
def test_impossible_sizes_are_refused(height, width):
    with pytest.raises(UnreadableImage):
        check_size(height, width)
    check_size(20_000, 25_000)
