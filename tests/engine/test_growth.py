"""Tests of growth up to 100 megapixels with the embedded model: linear cost, constant memory beyond the buffers.

The tests count operations and tensors, because times and process memory depend on what else a machine does.
"""

import functools

import pytest
import torch

from sanarestore import tiling, weights
from sanarestore.engine.restorer import Restorer
from sanarestore.evaluation.speed.buffers import buffers, growing_of
from sanarestore.model.loading import RestorationModel, load_model
from sanarestore.model.runners.deep import Pass
from sanarestore.options import RestoreOptions, Tiling
from tests.counting import Cost, cost, exponent, fake

Size = tuple[int, int]

SIZES: tuple[Size, ...] = ((1440, 1440), (2816, 5472), (4064, 8160), (8160, 12256))
"""Sizes of 2, 15, 33 and 100 megapixels in 1, 2, 2 and 6 tiles; multiples of 32 need no padding."""

TILE = 4096
DECODED = (22.07, 8.76, 5.72)
"""Thousands of multiply-adds a pixel of the decoder, by level, finest first; with upsampling, and the head."""
PIXELS = [height * width for height, width in SIZES]


@functools.cache
def mini() -> RestorationModel:
    return load_model(weights.EMBEDDED)


@functools.cache
def restorer(fidelity: float, scheme: Tiling = "exact") -> Restorer:
    tile = None if scheme == "off" else TILE
    options = RestoreOptions(threads=1, fidelity=fidelity, tiling=scheme, tile=tile)
    return Restorer(options, device="cpu", model=mini())


@functools.cache
def restored(size: Size, fidelity: float, scheme: Tiling = "exact") -> Cost:
    """Count the work of the engine, without the memory of the image that it is given."""
    subject = restorer(fidelity, scheme)
    with fake(), pytest.MonkeyPatch.context() as patch:
        # These functions read numbers from tensors, and fake tensors have none; all experts cost the same.
        patch.setattr("sanarestore.flow.euler_times", lambda steps, shift: [1.0, 0.0])
        patch.setattr("sanarestore.model.experts.Experts.shares", lambda *_: {None: 1.0})
        degraded_CHW = torch.empty(*size, 3).permute(2, 0, 1)

        def work() -> None:
            for _ in subject._stages(degraded_CHW, torch.empty(*size, 3).permute(2, 0, 1)):
                pass

        return cost(work)


def windows(size: Size, halo: int, stride: int, margin: int = 0) -> list[int]:
    """Return the areas of all windows."""
    tiles = tiling.grid(*size, tile=TILE, halo=halo, stride=stride, margin=margin)
    return [(bottom - top) * (right - left) for top, bottom, left, right in (each.window for each in tiles)]


def area_factor(size: Size, halo: int, stride: int, margin: int = 0) -> float:
    """Return the total area of the windows divided by that of the image."""
    return sum(windows(size, halo, stride, margin)) / (size[0] * size[1])


def continued(size: Size) -> float:
    """Return the area that the refiner sees, with the margin beyond the border, divided by that of the image."""
    refiner = mini().refiner
    rows, columns = (-(-side // refiner.stride) * refiner.stride + 2 * refiner.margin for side in size)
    return rows * columns / (size[0] * size[1])


def divided(flops: list[int], factors: list[float]) -> list[float]:
    return [flop / factor for flop, factor in zip(flops, factors, strict=True)]


# Operations.


@pytest.mark.parametrize(("fidelity", "refined", "generated"), [(1.0, 67.85, 0), (0.0, 0, 73.28), (0.5, 67.85, 73.28)])
def test_the_operations_per_pixel_are_pinned(fidelity: float, refined: float, generated: float) -> None:
    """Count the multiply-adds of untiled work, so that a change of the cost is noticed.

    The refiner alone runs at fidelity 1, with the pixels beyond the border; the latent path alone runs at 0, and both
    run in between. The refiner was designed to take 50 to 100 thousand per pixel; with the channels that its
    calibration leaves out, and a stem for two images, it would take 98.91.
    """
    thousands = refined * continued(SIZES[0]) + generated
    assert restored(SIZES[0], fidelity, "off").flop / 2e3 / PIXELS[0] == pytest.approx(thousands, rel=0.002)


@pytest.mark.parametrize("fidelity", [1.0, 0.0])
def test_untiled_cost_per_pixel_does_not_depend_on_the_size(fidelity: float) -> None:
    """Attention is linear: a product of all pairs of tokens would dominate the cost at 100 megapixels."""
    flops = [restored(size, fidelity, "off").flop for size in SIZES]
    found = divided(flops, [continued(size) if fidelity else 1.0 for size in SIZES])
    assert exponent(PIXELS, found) == pytest.approx(1, abs=1e-3)


def test_the_tiled_refiner_costs_less_than_in_proportion_to_the_area_of_its_windows() -> None:
    """Its encoder computes whole windows, and its decoder only what the cores depend on."""
    refiner = mini().refiner
    factors = [area_factor(size, refiner.halo, refiner.stride, refiner.margin) for size in SIZES]
    assert max(factors) > 1.05, "the windows overlap"
    found = divided([restored(size, 1.0).flop for size in SIZES], factors)
    untiled = divided([restored(size, 1.0, "off").flop for size in SIZES], [continued(size) for size in SIZES])
    for size, tiled, whole in zip(SIZES, found, untiled, strict=True):
        assert tiled / whole == pytest.approx(1 - left_out(size), abs=2e-3)
    assert left_out(SIZES[3]) > 0.02
    assert exponent(PIXELS, found) == pytest.approx(1, abs=0.01)


def left_out(size: Size) -> float:
    """Return the share of the operations on windows that the decoder leaves out around the cores."""
    refiner = mini().refiner
    tiles = tiling.grid(*size, tile=TILE, halo=refiner.halo, stride=refiner.stride, margin=refiner.margin)
    found = 0.0
    for thousands, radius in zip(DECODED, refiner.config.decoder_radii, strict=True):
        area = sum(
            (min(core[1] + radius, window[1]) - max(core[0] - radius, window[0]))
            * (min(core[3] + radius, window[3]) - max(core[2] - radius, window[2]))
            for core, window in ((each.core, each.window) for each in tiles)
        )
        found += thousands / 67.85 * (1 - area / sum(windows(size, refiner.halo, refiner.stride, refiner.margin)))
    return found


def test_the_tiled_latent_path_costs_in_proportion_to_its_windows() -> None:
    """Every stage has its own halo, and the two passes of a stage with attention both compute part of its work."""
    stages = per_pixel()
    in_tiles = sum(flop for flop, _ in stages)
    factors = [sum(flop * area_factor(size, halo, 32) for flop, halo in stages) / in_tiles for size in SIZES[1:]]
    assert min(factors) > 1.005
    found = divided([restored(size, 0.0).flop for size in SIZES[1:]], factors)
    assert [flop / pixels for flop, pixels in zip(found, PIXELS[1:], strict=True)] == pytest.approx(
        [in_tiles] * len(found), rel=0.01
    )
    assert exponent(PIXELS[1:], found) == pytest.approx(1, abs=0.01)
    whole = restored(SIZES[0], 0.0).flop / PIXELS[0]
    assert whole < in_tiles < 1.15 * whole


def per_pixel() -> list[tuple[float, int]]:
    """Return the operations per pixel and the halo of every pass of the latent path."""
    generation, side = restorer(0.0).generation, 1024
    assert generation is not None
    model = generation.latent.autoencoder
    found: list[tuple[int, int]] = []

    def of_a_pass(each: Pass, channels: int) -> None:
        window = torch.empty(1, channels, side // each.input_downsample, side // each.input_downsample)
        everywhere = (slice(None), slice(None))
        sums = None if each.key_sums is None else each.key_sums(window, everywhere)
        flop = cost(lambda: each.run(window, sums)).flop
        if each.key_sums is not None:
            flop += cost(lambda: each.key_sums(window, everywhere)).flop  # type: ignore[misc]
        found.append((flop, -(-each.halo // 32) * 32))

    with fake(), torch.inference_mode():
        image = torch.empty(1, 3, side, side)
        found.append((cost(lambda: model.encode_shallow(image)).flop, -(-model.encoder_radius // 32) * 32))
        for passes, channels in (
            (generation.coding.encoder_passes, model.encoder_channels),
            (generation.coding.decoder_passes, 32),
        ):
            for each in passes:
                of_a_pass(each, channels)
                channels = each.channels
        positions = side // model.decoder_downsample
        map_BChw = torch.empty(1, channels, positions, positions)
        found.append((cost(lambda: model.decode_shallow(map_BChw)).flop, -(-model.decoder_radius // 32) * 32))
        latent = torch.empty(1, 32, side // 32, side // 32)
        found.append((cost(lambda: generation.predict(latent)(latent, 1.0)).flop, 0))
    return [(flop / side**2, halo) for flop, halo in found]


# Memory.


def test_refiner_memory_beyond_the_buffers_is_that_of_one_window() -> None:
    refiner = mini().refiner
    found = [
        (restored(size, 1.0).bytes - buffers(restorer(1.0), *size))
        / max(windows(size, refiner.halo, refiner.stride, refiner.margin))
        for size in SIZES
    ]
    assert buffers(restorer(1.0), *SIZES[0]) == 12 * PIXELS[0]
    # Sizes may differ by 12 bytes a pixel: a window that covers the whole image is not copied.
    assert max(found) < 1.07 * min(found)
    # Two of these bytes hold the weight of the residual, which is 0 where the image does not vary.
    assert max(found) < 190, "bytes a pixel"


def test_latent_path_memory_beyond_the_buffers_is_that_of_one_window() -> None:
    """At most two maps exist at a time."""
    latent = restorer(0.0).latent
    assert latent is not None
    found = []
    for size in SIZES[1:]:
        growing, image = growing_of(latent, *size), 12 * size[0] * size[1]
        # The result exists from the beginning, but its memory pages are taken only as it is written.
        most = image + growing.latents + max(growing.maps, growing.last_map, growing.sampling)
        assert buffers(restorer(0.0), *size) <= most
        found.append((restored(size, 0.0).bytes - most) / max(windows(size, 32, 32)))
    assert max(found) < 1.1 * min(found)
    assert max(found) < 240, "bytes a pixel"
