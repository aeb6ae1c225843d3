"""The refiner: the identity before training, local, and float32 at its ends."""

from typing import Any

import numpy as np
import pytest
import torch

from sanarestore.model.refiner import Refiner, RefinerConfig, Statistics
from sanarestore.model.tone import TONE_STATISTICS
from tests.conftest import random_refiner


def inputs(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    degraded, generated = torch.rand(2, 2, 3, height, width, generator=generator)
    return degraded, generated, torch.randn(2, 8, generator=generator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_untrained_it_returns_generated_bit_for_bit(dtype: torch.dtype) -> None:
    refiner = Refiner(RefinerConfig(widths=(8, 8, 16, 16), prompt_width=8)).with_dtype(dtype)
    degraded, generated, prompt = inputs(32, 48)
    assert torch.equal(refiner(degraded, generated, prompt), generated)


def test_a_16_bit_ramp_is_code_exact_at_bfloat16() -> None:
    refiner = Refiner(RefinerConfig(widths=(8, 8, 16, 16), prompt_width=8)).with_dtype(torch.bfloat16)
    codes = np.arange(65536, dtype=np.uint16).reshape(1, 1, 256, 256).repeat(3, axis=1)
    ramp = torch.from_numpy(codes.astype(np.float32) / np.float32(65535))
    out = refiner(ramp, ramp, torch.zeros(1, 8)).detach().numpy()
    assert np.array_equal(np.rint(out * 65535).astype(np.uint16), codes)


def test_only_the_middle_takes_another_dtype() -> None:
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
def test_the_halo_is_the_reach_of_the_gradient(config: RefinerConfig) -> None:
    """Gradient of one aligned block's sum: zero beyond the computed radius, not zero just inside it."""
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


def test_the_statistics_steer() -> None:
    """Noise in one corner changes what the decoder does there and nowhere far from it."""
    refiner = random_refiner()
    steering = refiner.steering
    degraded = torch.full((1, 3, 256, 256), 0.5)
    noisy = degraded.clone()
    noisy[..., :64, :64] += 0.1 * torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(0))
    calm, stirred = (steering(Statistics.of(image).wide, torch.zeros(1, 8)) for image in (degraded, noisy))
    assert (calm - stirred)[..., :8, :8].abs().max() > 0.1
    assert torch.equal(calm[..., 12:, 12:], stirred[..., 12:, 12:])


def test_it_computes_the_same_while_it_learns() -> None:
    """Where gradients are asked for, other operations make the same numbers."""
    refiner = random_refiner().requires_grad_(True)
    learning = refiner(*inputs(64, 96))
    with torch.no_grad():
        assert torch.allclose(learning, refiner(*inputs(64, 96)), atol=1e-5, rtol=0)
    assert learning.requires_grad


def test_the_default_reach_is_within_the_design() -> None:
    assert RefinerConfig().receptive_radius <= 96


def test_the_prompt_and_both_images_matter() -> None:
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


@pytest.mark.parametrize(
    "more",
    [
        {"spectrum": 5},
        {"tone": 4},
        {"spectrum": 5, "tone": 4},
        {"widths": (12, 8, 24, 16)},
        {"widths": (8, 12, 16, 20)},
    ],
)
def test_it_grows_without_changing_what_it_does(more: dict[str, Any]) -> None:
    refiner = random_refiner()
    grown = refiner.grown(**more)
    assert {name: getattr(grown.config, name) for name in more} == more
    statistics = torch.randn(2, TONE_STATISTICS, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(grown(*inputs(32, 48), statistics), refiner(*inputs(32, 48)), atol=1e-6, rtol=0)
    assert grown.grown(**more) is grown
    assert grown.grown(spectrum=9, tone=9).config.to_dict() == {
        **refiner.config.to_dict(),
        "spectrum": 9,
        "tone": 9,
        **more,
    }


def test_what_is_grown_can_learn() -> None:
    grown = random_refiner().grown(widths=(12, 12, 24, 24)).requires_grad_(True)
    before = {name: parameter.detach().clone() for name, parameter in grown.named_parameters()}
    optimizer = torch.optim.SGD(grown.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        grown(*inputs(32, 32)).square().mean().backward()
        optimizer.step()
    for name, parameter in grown.named_parameters():
        moved = (parameter - before[name]).abs().flatten(1) if parameter.ndim > 1 else parameter - before[name]
        assert moved[-1].any(), name


def test_no_level_is_taken_away() -> None:
    refiner = random_refiner()
    assert refiner.grown(widths=(4, 4, 4, 4)) is refiner
    with pytest.raises(ValueError, match="levels"):
        refiner.grown(widths=(8, 8, 16))


def test_the_tone_is_asked_for_and_moves_the_whole() -> None:
    refiner = random_refiner(tone=4)
    with pytest.raises(ValueError, match="whole photograph"):
        refiner(*inputs(32, 32))
    bright, dark = (refiner(*inputs(32, 32), torch.full((2, TONE_STATISTICS), value)) for value in (1.0, -1.0))
    assert ((bright - dark).abs().mean(dim=(2, 3)) > 1e-4).all()
    assert refiner.with_dtype(torch.bfloat16).tone.curve.weight.dtype == torch.float32  # type: ignore[union-attr]


def test_a_configuration_survives_json() -> None:
    import json

    config = RefinerConfig(widths=(4, 8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1))
    assert RefinerConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_block_counts_must_fit_the_levels() -> None:
    with pytest.raises(ValueError, match="block counts"):
        RefinerConfig(widths=(4, 8, 8), encoder_blocks=(1,))


def test_a_stride_smaller_than_a_block_is_refused() -> None:
    with pytest.raises(ValueError, match="takes three"):
        RefinerConfig(widths=(4, 8), encoder_blocks=(1,), decoder_blocks=(1,))
