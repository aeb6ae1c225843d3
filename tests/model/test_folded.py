"""A folded refiner computes what the refiner computes, also without silent channels, and in 8 bits nearly so."""

import pytest
import torch
from torch import Tensor

from sanarestore.degradations.requests import Request
from sanarestore.kernels import int8_convolution
from sanarestore.model.calibration import Calibration
from sanarestore.model.colour_correction import WholePhoto, overview
from sanarestore.model.folded import FoldedRefiner
from sanarestore.model.refiner import Refiner
from sanarestore.model.refiner_config import RefinerConfig
from sanarestore.training.calibrating import Calibrating, calibrate

CONFIG = RefinerConfig(widths=(16, 24, 32), encoder_blocks=(2, 1), decoder_blocks=(1, 2), prompt_width=12)
SILENT = 9
"""Channels inside each block that are never positive."""


def refiner_of(config: RefinerConfig = CONFIG) -> Refiner:
    torch.manual_seed(0)
    refiner = Refiner(config).eval().requires_grad_(False)
    torch.nn.init.normal_(refiner.head.weight, std=0.001)
    for name, each in refiner.named_modules():
        if name.endswith("conv_in"):
            torch.nn.init.normal_(each.bias, std=0.1)
            each.bias[:SILENT] = -1e3
            each.bias[SILENT:] += 1
    return refiner


def image(seed: int, height: int = 48, width: int = 64) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, height, width, generator=draw).contiguous(memory_format=torch.channels_last)


def prompt(seed: int = 0) -> Tensor:
    return torch.randn(1, CONFIG.prompt_width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def refiner() -> Refiner:
    return refiner_of()


@pytest.fixture(scope="module")
def calibration(refiner: Refiner) -> Calibration:
    photographs = [Calibrating(image(seed), prompt(seed % 3)) for seed in range(12)]
    return calibrate(refiner, photographs, rounding=12)


@torch.inference_mode()
@pytest.mark.parametrize("is_one", [True, False])
@pytest.mark.parametrize("is_calibrated", [True, False])
def test_it_equals_the_refiner(refiner: Refiner, calibration: Calibration, is_one: bool, is_calibrated: bool) -> None:
    degraded = image(20)
    generated = degraded if is_one else image(21)
    folded = FoldedRefiner(refiner, prompt(1), calibration if is_calibrated else None)
    expected = refiner(degraded, generated, prompt(1))
    assert (expected - generated).abs().max() > 0.01
    torch.testing.assert_close(folded(degraded, generated), expected, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_light_and_colour_are_corrected_too() -> None:
    config = RefinerConfig(
        widths=(8, 12, 16), encoder_blocks=(1, 1), decoder_blocks=(1, 1), prompt_width=12, colour_correction=8
    )
    refiner, degraded = refiner_of(config), image(3)
    assert refiner.colour_correction is not None
    for each in refiner.colour_correction.parameters():
        torch.nn.init.normal_(each, std=0.3)
    whole = WholePhoto.of(overview(degraded[0]), Request.of("lowlight", "colour"))
    found = FoldedRefiner(refiner, prompt())(degraded, degraded, whole)
    expected = refiner(degraded, degraded, prompt(), whole)
    assert not torch.equal(expected, refiner(degraded, degraded, prompt()))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_bfloat16_stays_near_the_refiner() -> None:
    refiner, degraded = refiner_of().with_dtype(torch.bfloat16), image(4)
    found = FoldedRefiner(refiner, prompt())(degraded, degraded)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, refiner(degraded, degraded, prompt()), rtol=0, atol=0.02)


@torch.inference_mode()
@pytest.mark.parametrize(
    "core", [(64, 128, 80, 160), (16, 93, 0, 192), (0, 192, 128, 250), (96, 160, 16, 33)], ids=lambda core: str(core)
)
@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        RefinerConfig(widths=(8, 8, 12, 12), encoder_blocks=(1, 1, 1), decoder_blocks=(2, 1, 1), prompt_width=12),
        RefinerConfig(widths=(8, 12, 12), encoder_blocks=(1, 0), decoder_blocks=(3, 0), prompt_width=12, spectrum=5),
        RefinerConfig(widths=(8, 8, 8), encoder_blocks=(1, 0), decoder_blocks=(0, 0), prompt_width=12),
    ],
    ids=["three-levels", "four-levels", "spectrum", "no-decoder"],
)
def test_the_core_of_a_window_equals_that_part_of_the_whole(
    config: RefinerConfig, core: tuple[int, int, int, int]
) -> None:
    refiner, degraded, generated = refiner_of(config), image(12, 192, 256), image(13, 192, 256)
    for name, each in refiner.named_modules():
        if name.endswith("conv_in"):
            each.bias[:] = 1.0  # so that no silent channel hides what comes from beyond the part
    folded = FoldedRefiner(refiner, prompt())
    rows, columns = slice(*core[:2]), slice(*core[2:])
    expected = folded(degraded, generated)[..., rows, columns]
    assert (expected - generated[..., rows, columns]).abs().max() > 0.01
    torch.testing.assert_close(folded(degraded, generated, None, core), expected, rtol=0, atol=1e-6)


@torch.inference_mode()
def test_the_decoder_computes_only_what_the_core_depends_on() -> None:
    refiner, degraded = refiner_of(), image(14, 256, 256)
    folded, sizes = FoldedRefiner(refiner, prompt()), []
    folded.get_submodule("_head").register_forward_pre_hook(lambda _, given: sizes.append(tuple(given[0].shape[2:])))
    folded(degraded, degraded, None, (96, 160, 96, 160))
    radius = refiner.config.decoder_radii[0]
    assert sizes == [((64 + 2 * radius) // 2,) * 2]


def test_silent_channels_are_left_out(refiner: Refiner, calibration: Calibration) -> None:
    for block, width in (("encoder.0.0", 16), ("encoder.1.0", 24), ("bottleneck", 32)):
        inside = calibration.kept(block)
        assert len(inside) % 8 == 0
        assert len(inside) == -(-(width - SILENT) // 8) * 8
        inner = refiner.get_submodule(f"{block}.conv_in")
        assert inner.weight.shape[0] == width, "the refiner itself stays whole"


@torch.inference_mode()
def test_a_block_of_silent_channels_only_adds_its_bias() -> None:
    refiner = refiner_of()
    refiner.get_submodule("encoder.1.0.conv_in").bias[:] = -1e3
    calibration = calibrate(refiner, [Calibrating(image(seed), prompt()) for seed in range(4)], rounding=4)
    assert len(calibration.kept("encoder.1.0")) == 0
    degraded = image(9)
    expected = refiner(degraded, degraded, prompt())
    torch.testing.assert_close(
        FoldedRefiner(refiner, prompt(), calibration)(degraded, degraded), expected, rtol=0, atol=1e-5
    )


@torch.inference_mode()
def test_channels_that_only_unusual_photographs_reach_are_kept() -> None:
    refiner, noisy = refiner_of(), image(11)
    for name, each in refiner.named_modules():
        if name.endswith("conv_in"):
            each.bias[SILENT:] -= 2  # so that gray reaches few channels
    gray = [Calibrating(torch.full_like(noisy, 0.5), prompt())]
    expected = refiner(noisy, noisy, prompt())
    errors = []
    for unusual in ([], [Calibrating(noisy, prompt())]):
        calibration = calibrate(refiner, gray, rounding=1, unusual=unusual)
        found = FoldedRefiner(refiner, prompt(), calibration)(noisy, noisy)
        errors.append(float((found - expected).abs().max()))
    assert errors[0] > 1e-3, "gray alone does not show what is needed"
    assert errors[1] < 1e-5


def test_8_bits_need_a_calibration(refiner: Refiner) -> None:
    with pytest.raises(ValueError, match="calibration"):
        FoldedRefiner(refiner, prompt(), in_int8=True)


@pytest.mark.skipif(not int8_convolution.available(), reason="this processor has no 8-bit convolutions")
class TestIn8Bits:
    """The body in 8 bits."""

    @torch.inference_mode()
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_the_error_is_a_small_part_of_the_change(
        self, refiner: Refiner, calibration: Calibration, seed: int
    ) -> None:
        degraded = image(30 + seed)
        expected = refiner(degraded, degraded, prompt(seed))
        found = FoldedRefiner(refiner, prompt(seed), calibration, in_int8=True)(degraded, degraded)
        change, error = expected - degraded, found - expected
        assert 0 < error.square().mean() < change.square().mean() * 10**-2.5

    @torch.inference_mode()
    def test_a_window_gives_what_the_whole_gives(self, refiner: Refiner, calibration: Calibration) -> None:
        """The scales are constants, so that tiling changes nothing beyond the halo."""
        folded, degraded = FoldedRefiner(refiner, prompt(), calibration, in_int8=True), image(5, 192, 320)
        halo = refiner.halo
        whole = folded(degraded, degraded)
        left = degraded[..., : 160 + halo].contiguous(memory_format=torch.channels_last)
        assert 160 + halo < 320
        torch.testing.assert_close(folded(left, left)[..., :160], whole[..., :160], rtol=0, atol=1e-6)
        core = folded(left, left, None, (64, 112, 0, 160))
        torch.testing.assert_close(core, whole[..., 64:112, :160], rtol=0, atol=1e-6)

    @torch.inference_mode()
    def test_flat_fields_stay(self, refiner: Refiner, calibration: Calibration) -> None:
        folded = FoldedRefiner(refiner, prompt(), calibration, in_int8=True)
        flat = torch.full((1, 3, 64, 64), 0.7).contiguous(memory_format=torch.channels_last)
        assert torch.equal(folded(flat, flat), flat)

    @torch.inference_mode()
    def test_negative_gains_of_the_prompt_change_the_sign_of_weights(self, calibration: Calibration) -> None:
        refiner, degraded = refiner_of(), image(6)
        project = refiner.get_submodule("encoder.0.0.modulation.project")
        project.bias[8:16] = -2.5
        photographs = [Calibrating(image(seed), prompt()) for seed in range(8)]
        own = calibrate(refiner, photographs, rounding=8)
        expected = refiner(degraded, degraded, prompt())
        found = FoldedRefiner(refiner, prompt(), own, in_int8=True)(degraded, degraded)
        assert (found - expected).square().mean() < (expected - degraded).square().mean() * 10**-2.5

    @torch.inference_mode()
    def test_every_16_bit_code_passes_an_untrained_refiner(self) -> None:
        refiner = Refiner(CONFIG).eval().requires_grad_(False)
        calibration = calibrate(refiner, [Calibrating(image(seed), prompt()) for seed in range(4)], rounding=4)
        ramp = (torch.arange(65536).view(1, 1, 256, 256) / 65535).expand(1, 3, -1, -1)
        ramp = ramp.contiguous(memory_format=torch.channels_last)
        restored = FoldedRefiner(refiner, prompt(), calibration, in_int8=True)(ramp, ramp)
        assert torch.equal((restored * 65535).round(), (ramp * 65535).round())
