"""The refiner: identity before training and on flat fields, bounded receptive field, float32 at its ends."""

import numpy as np
import pytest
import torch

from sanarestore import tiling
from sanarestore.model.colour_correction import COLOUR_STATISTICS, WholePhoto
from sanarestore.model.refiner import Refiner, Statistics
from sanarestore.model.refiner_config import RefinerConfig
from tests.conftest import photo, random_refiner


def inputs(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    degraded, generated = torch.rand(2, 2, 3, height, width, generator=generator)
    return degraded, generated, torch.randn(2, 8, generator=generator)


def statistics_of(value: float, *asked: tuple[float, float]) -> WholePhoto:
    """Make photographs whose statistics all have one value, with or without a request for light and colour."""
    return WholePhoto(
        statistics_BK=torch.full((len(asked), COLOUR_STATISTICS), value),
        asked_B2=torch.tensor(asked, dtype=torch.float32),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_untrained_refiner_returns_the_generated_image_bit_for_bit(dtype: torch.dtype) -> None:
    refiner = Refiner(RefinerConfig(widths=(8, 8, 16, 16), prompt_width=8)).with_dtype(dtype)
    degraded, generated, prompt = inputs(32, 48)
    assert torch.equal(refiner(degraded, generated, prompt), generated)


def test_a_16_bit_ramp_is_exact_in_every_code_at_bfloat16() -> None:
    refiner = Refiner(RefinerConfig(widths=(8, 8, 16, 16), prompt_width=8)).with_dtype(torch.bfloat16)
    codes = np.arange(65536, dtype=np.uint16).reshape(1, 1, 256, 256).repeat(3, axis=1)
    ramp = torch.from_numpy(codes.astype(np.float32) / np.float32(65535))
    out = refiner(ramp, ramp, torch.zeros(1, 8)).detach().numpy()
    assert np.array_equal(np.rint(out * 65535).astype(np.uint16), codes)


def test_stem_and_head_stay_float32() -> None:
    refiner = random_refiner().with_dtype(torch.bfloat16)
    assert refiner.stem.weight.dtype == refiner.head.weight.dtype == torch.float32
    assert {parameter.dtype for parameter in refiner.encoder.parameters()} == {torch.bfloat16}
    assert refiner(*inputs(32, 32)).dtype == torch.float32


def test_bfloat16_stays_near_float32() -> None:
    exact, rounded = random_refiner(), random_refiner().with_dtype(torch.bfloat16)
    difference = (exact(*inputs(32, 32)) - rounded(*inputs(32, 32))).abs().mean()
    assert 0 < difference < 0.02


@pytest.mark.parametrize(
    "config",
    [
        RefinerConfig(widths=(4, 4, 4, 4), prompt_width=4),
        RefinerConfig(widths=(4, 4, 4), encoder_blocks=(1, 2), decoder_blocks=(2, 1), prompt_width=4),
        RefinerConfig(widths=(4, 4, 4), encoder_blocks=(3, 2), decoder_blocks=(0, 1), prompt_width=4),
        RefinerConfig(widths=(4, 4, 4, 4), encoder_blocks=(2, 2, 1), decoder_blocks=(3, 2, 1), prompt_width=4),
        RefinerConfig(widths=(4, 4, 4), encoder_blocks=(0, 0), decoder_blocks=(1, 1), prompt_width=4, spectrum=5),
    ],
)
def test_the_halo_covers_the_receptive_field_of_the_gradient(config: RefinerConfig) -> None:
    """The gradient of one aligned block's sum is zero beyond the computed radius and nonzero just inside it."""
    torch.manual_seed(0)
    refiner = Refiner(config)
    with torch.no_grad():
        for name, parameter in refiner.named_parameters():
            # Positive weights and biases keep every ReLU open, so that no path is hidden by chance.
            parameter.copy_(torch.rand_like(parameter) * 0.2 + (0.5 if name.endswith("bias") else 0.01))
    stride, radius = config.stride, config.receptive_radius
    side = stride * (2 * (radius // stride + 2) + 1)
    # Uneven, because an absolute difference has no gradient where neighbours are equal.
    image = (1 + 0.3 * torch.rand(1, 3, side, side)).requires_grad_()
    middle = (side - stride) // 2
    out = refiner(image, image.detach(), torch.zeros(1, config.prompt_width))
    out[..., middle : middle + stride, middle : middle + stride].sum().backward()
    touched = torch.nonzero(image.grad[0].abs().sum(0).sum(0)).flatten()
    assert middle - int(touched.min()) == radius
    assert int(touched.max()) - (middle + stride - 1) == radius
    assert refiner.halo >= radius
    assert refiner.halo % stride == 0


def test_spatial_modulation_follows_local_statistics() -> None:
    """Noise in one corner changes the modulation near that corner only."""
    refiner = random_refiner()
    modulation = refiner.spatial_modulation
    degraded = torch.full((1, 3, 256, 256), 0.5)
    noisy = degraded.clone()
    noisy[..., :64, :64] += 0.1 * torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0))
    calm, stirred = (modulation(Statistics.of(image).wide, torch.zeros(1, 8)) for image in (degraded, noisy))
    assert (calm - stirred)[..., :8, :8].abs().max() > 0.1
    assert torch.equal(calm[..., 12:, 12:], stirred[..., 12:, 12:])


def test_results_are_the_same_with_gradients_enabled() -> None:
    """The refiner uses other operations when gradients are needed."""
    refiner = random_refiner().requires_grad_(True)
    learning = refiner(*inputs(64, 96))
    with torch.no_grad():
        assert torch.allclose(learning, refiner(*inputs(64, 96)), atol=1e-5, rtol=0)
    assert learning.requires_grad


def test_the_default_receptive_radius_is_at_most_96_px() -> None:
    assert RefinerConfig().receptive_radius <= 96


def test_the_result_depends_on_the_prompt_and_both_images() -> None:
    refiner = random_refiner()
    degraded, generated, prompt = inputs(32, 32)
    base = refiner(degraded, generated, prompt)
    assert (refiner(degraded, generated, prompt + 1) - base).abs().max() > 1e-3
    assert (refiner(1 - degraded, generated, prompt) - base).abs().max() > 1e-3
    assert ((refiner(degraded, 1 - generated, prompt) - (1 - generated)) - (base - generated)).abs().max() > 1e-3


def test_images_of_a_batch_do_not_mix() -> None:
    refiner = random_refiner()
    degraded, generated, prompt = inputs(32, 32)
    both = refiner(degraded, generated, prompt)
    alone = refiner(degraded[1:], generated[1:], prompt[1:])
    assert torch.allclose(both[1:], alone, atol=1e-5)


def test_colour_correction_applies_only_where_light_or_colour_is_requested() -> None:
    refiner = random_refiner(colour_correction=4)
    plain = refiner(*inputs(32, 32))
    assert torch.equal(refiner(*inputs(32, 32), statistics_of(1, (0, 0), (0, 0))), plain)
    first, second = refiner(*inputs(32, 32), statistics_of(1, (0, 0), (1, 1)))
    assert torch.equal(first, plain[0])
    assert ((second - plain[1]).abs().mean(dim=(1, 2)) > 1e-4).all()
    bright, dark = (refiner(*inputs(32, 32), statistics_of(value, (0, 1), (1, 1))) for value in (1.0, -1.0))
    assert ((bright - dark).abs().mean(dim=(2, 3)) > 1e-4).all()
    assert refiner.with_dtype(torch.bfloat16).colour_correction.curve.weight.dtype == torch.float32  # type: ignore[union-attr]


def test_a_refiner_without_colour_correction_ignores_such_requests() -> None:
    refiner = random_refiner()
    assert torch.equal(refiner(*inputs(32, 32), statistics_of(1, (1, 1), (1, 1))), refiner(*inputs(32, 32)))


COLOURS = [
    (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 1.0), (0.5, 0.5, 0.5), (0.1, 0.7, 0.3),
    (254 / 255, 253 / 255, 1 / 255), (1 / 3, 2 / 7, 5 / 9), (12345 / 65535, 54321 / 65535, 0.0), (1.5, -0.25, 0.7),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gradients", [False, True])
def test_flat_fields_are_returned_bit_for_bit(dtype: torch.dtype, gradients: bool) -> None:
    refiner = random_refiner(spectrum=5).with_dtype(dtype)
    flat = torch.tensor(COLOURS)[:, :, None, None].repeat(1, 1, 48, 64)
    prompts = torch.randn(len(COLOURS), 8, generator=torch.Generator().manual_seed(0))
    with torch.set_grad_enabled(gradients):
        assert torch.equal(refiner(flat, flat, prompts), flat)


def test_the_generated_image_is_kept_where_the_photograph_is_flat() -> None:
    refiner = random_refiner()
    flat, (_, generated, prompt) = torch.full((2, 3, 32, 48), 0.9), inputs(32, 48)
    assert torch.equal(refiner(flat, generated, prompt), generated)


def test_a_flat_half_stays_exact_beyond_the_receptive_radius() -> None:
    refiner = random_refiner()
    image = torch.from_numpy(photo(64, 320)).permute(2, 0, 1)[None].clone()
    image[..., 128:] = torch.tensor([0.95, 0.2, 1.0])[:, None, None]
    restored = refiner(image, image, torch.ones(1, 8))
    assert (restored - image)[..., :128].abs().max() > 1e-3
    beyond = 128 + refiner.config.receptive_radius
    assert torch.equal(restored[..., beyond:], image[..., beyond:])


@pytest.mark.parametrize(
    ("deviation", "least", "most"), [(0.01, 0.0, 0.1), (0.05, 0.4, 0.7), (0.5, 0.98, 1.0), (5.0, 0.999, 1.0)]
)
def test_the_residual_is_scaled_by_local_variation(deviation: float, least: float, most: float) -> None:
    """Grain far below one 8-bit code is hardly restored; visible grain is restored in full."""
    refiner = random_refiner()
    refiner.head.weight.zero_()
    refiner.head.bias.fill_(0.25)
    image = 0.5 + deviation / 255 * torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    scale = (refiner(image, image, torch.ones(1, 8)) - image) / 0.25
    assert least - 1e-5 <= scale.min() <= scale.max() <= most + 1e-5


def mapped(refiner: Refiner, image_CHW: torch.Tensor, *, tile: int, margin: int) -> torch.Tensor:
    """Refine a photograph in tiles."""
    prompt = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))
    restored = torch.full_like(image_CHW, torch.nan)
    with torch.no_grad():
        for _ in tiling.map_with_halo(
            lambda window: refiner(window[None], window[None], prompt)[0], (image_CHW,), restored,
            tile=tile, halo=refiner.halo, stride=refiner.stride, margin=margin,
        ):  # fmt: skip
            pass
    return restored


def bright_scene(height: int, width: int) -> torch.Tensor:
    """Make a nearly white backdrop with just visible grain up to its border."""
    grain = torch.randn(3, height, width, generator=torch.Generator().manual_seed(0)) * (3 / 255)
    return (0.95 + grain).clamp(0, 1)


def test_a_margin_reduces_the_artefact_ring_at_the_border() -> None:
    """Compare with an image extended by the full halo, which has no border effect."""
    refiner = random_refiner()
    scene = bright_scene(96, 128)
    ideal = mapped(refiner, scene, tile=4096, margin=refiner.halo)
    ringed, kept = (mapped(refiner, scene, tile=4096, margin=margin) for margin in (0, refiner.margin))
    edge = torch.ones(96, 128, dtype=torch.bool)
    edge[2:-2, 2:-2] = False
    ring, left = ((each - ideal)[:, edge].abs().mean().item() for each in (ringed, kept))
    assert ring > 2e-3
    assert left < ring / 2
    assert refiner.margin % refiner.stride == 0
    assert 0 < refiner.margin <= refiner.halo


@pytest.mark.parametrize("size", [(96, 128), (83, 211), (5, 300)])
def test_tiles_with_a_margin_match_untiled(size: tuple[int, int]) -> None:
    refiner = random_refiner()
    scene = torch.from_numpy(photo(*size)).permute(2, 0, 1)
    whole = mapped(refiner, scene, tile=4096, margin=refiner.margin)
    tiled = mapped(refiner, scene, tile=64, margin=refiner.margin)
    assert (whole - scene).abs().max() > 1e-3
    assert torch.allclose(tiled, whole, atol=1e-5, rtol=0)
