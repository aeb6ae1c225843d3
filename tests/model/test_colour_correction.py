"""Global colour correction: statistics of the whole photograph, applied only if light or colour is requested."""

import numpy as np
import pytest
import torch

from sanarestore.degradations.operations import LowLight, decode_srgb, encode_srgb
from sanarestore.degradations.requests import KINDS, Request
from sanarestore.model.colour_correction import (
    COLOUR_STATISTICS,
    DOUBT,
    LEAST_DEVIATION,
    OVERVIEW_SIDE,
    PLAIN,
    QUANTILE_STATISTICS,
    QUANTILES,
    ColourCorrection,
    WholePhoto,
    colour_statistics,
    overview,
    varied,
)
from tests.conftest import photo


def image_of(height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(photo(height, width)).permute(2, 0, 1)


LIGHT, COLOUR, BOTH, NEITHER = (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.0, 0.0)
"""Requested corrections: of light, of colour."""


def whole(asked: tuple[float, float] = BOTH, *, value: float = 1.0, count: int = 1) -> WholePhoto:
    """Make the input of a correction for photographs whose statistics all have one value."""
    return WholePhoto(
        statistics_BK=torch.full((count, COLOUR_STATISTICS), value), asked_B2=torch.tensor(asked).expand(count, 2)
    )


def moved(correction: ColourCorrection) -> ColourCorrection:
    with torch.no_grad():
        for parameter in correction.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        correction.curve.bias.add_(0.3)  # brighter, or light alone would change nothing
    return correction


@pytest.mark.parametrize(
    ("size", "expected"),
    [((128, 256), (32, 64)), ((1, 1), (1, 1)), ((40, 30), (40, 30)), ((1, 900), (1, 64)), ((641, 300), (64, 30))],
)
def test_an_overview_has_a_bounded_size_and_keeps_the_mean(size: tuple[int, int], expected: tuple[int, int]) -> None:
    image = image_of(*size)
    seen = overview(image)
    assert seen.shape == (9, *expected)
    assert max(seen.shape) <= OVERVIEW_SIDE
    assert torch.allclose(seen[:3].mean(dim=(1, 2)), image.mean(dim=(1, 2)), atol=0.005)


def test_an_overview_holds_area_means() -> None:
    image = image_of(128, 256)
    assert torch.allclose(overview(image)[:3], torch.nn.functional.avg_pool2d(image, 4), atol=1e-6)
    assert torch.equal(overview(image_of(40, 30)), image_of(40, 30).repeat(3, 1, 1)), "a small image is its own"


def test_an_overview_holds_the_darkest_and_brightest_sixteenth_of_each_cell() -> None:
    image = image_of(256, 512)
    parts = torch.nn.functional.avg_pool2d(image, 2)
    dark, bright = -torch.nn.functional.max_pool2d(-parts, 4), torch.nn.functional.max_pool2d(parts, 4)
    assert torch.allclose(overview(image)[3:], torch.cat([dark, bright]), atol=1e-6)


def test_an_overview_clips_before_averaging() -> None:
    spikes = torch.zeros(3, 128, 128)
    spikes[:, ::2] = 3.0
    spikes[:, 1::2] = -1.0
    assert torch.equal(overview(spikes)[:3], torch.full((3, 64, 64), 0.5))


def test_the_overview_of_an_expanded_gray_view_stays_gray() -> None:
    gray = torch.rand(1, 100, 70, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1)
    assert torch.equal(overview(gray)[0], overview(gray)[2])


def test_statistics_are_quantiles_independent_of_pixel_order() -> None:
    seen = overview(image_of(90, 64))
    found = colour_statistics(seen)
    assert found.shape == (COLOUR_STATISTICS,)
    shuffled = seen.flatten(1)[:, torch.randperm(seen[0].numel(), generator=torch.Generator().manual_seed(0))]
    assert torch.equal(colour_statistics(shuffled[:, None]), found)
    expected = (np.quantile(seen[0].numpy(), QUANTILES) - 0.5) * 4
    assert quantiles(seen)[:, 0].numpy() == pytest.approx(expected, abs=1e-4)
    gray = quantiles(torch.full((9, 4, 4), 0.25))
    assert torch.equal(gray, torch.tensor([-1.0, -1.0, -1.0, -2.0]).expand(len(QUANTILES), 4)), "gray has no saturation"


def quantiles(overview_Chw: torch.Tensor) -> torch.Tensor:
    """Quantiles among the statistics: [level, red green blue saturation]."""
    return colour_statistics(overview_Chw)[:QUANTILE_STATISTICS].view(len(QUANTILES), 4)


def extremes(overview_Chw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Darkest and brightest values of the statistics [level, channel], and what they say of clipping [end, channel]."""
    low, high, clipped = colour_statistics(overview_Chw)[QUANTILE_STATISTICS:].split((9, 9, 6))
    return low.view(3, 3) / 4 + 0.5, high.view(3, 3) / 4 + 0.5, clipped.view(2, 3)


def test_extremes_find_what_the_means_of_cells_hide() -> None:
    """Small black and white parts of a photograph tell its exposure; the means of cells show neither."""
    image = 0.4 + 0.2 * torch.rand(3, 512, 512, generator=torch.Generator().manual_seed(0))
    image[:, 100:102, 200:202], image[:, 300:302, 80:82] = 0.0, 1.0
    shifted = image * torch.tensor([0.9, 0.8, 0.7])[:, None, None] + 0.05
    low, high, _ = extremes(overview(shifted))
    assert low[0].tolist() == pytest.approx([0.05] * 3, abs=0.01)
    assert high[0].tolist() == pytest.approx([0.95, 0.85, 0.75], abs=0.01)
    assert quantiles(overview(shifted))[-1, 0] / 4 + 0.5 < 0.6


def test_noise_hardly_moves_the_extremes() -> None:
    """Parts of 2 x 2 pixels still hold half of the noise, whose extremes would lie three deviations further out."""
    image, sigma = image_of(512, 512), 0.05
    noisy = image + sigma * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    clean, found = (extremes(overview(each)) for each in (image, noisy))
    for before, after in zip(clean[:2], found[:2], strict=True):
        assert (after - before).abs().max() < sigma


def test_clipping_is_measured_by_channel() -> None:
    image = torch.rand(3, 128, 128, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
    image[2, :64], image[0, 96:] = 1.0, 0.0
    _, _, clipped = extremes(overview(image))
    assert [bool(each) for each in clipped.flatten() > 0] == [True, False, False, False, False, True]
    assert clipped[1, 2] > clipped[0, 0]


def test_a_correction_of_before_reads_quantiles_only() -> None:
    correction = moved(ColourCorrection(8, 16, QUANTILE_STATISTICS)).eval()
    image, prompt, given = image_of(9, 7)[None], torch.ones(1, 8), whole()
    other = torch.cat([given.statistics_BK[:, :QUANTILE_STATISTICS], -given.statistics_BK[:, QUANTILE_STATISTICS:]], 1)
    found = correction(image, WholePhoto(statistics_BK=other, asked_B2=given.asked_B2), prompt)
    assert torch.equal(found, correction(image, given, prompt))


def test_statistics_are_normalised_by_those_of_training_photographs() -> None:
    known_NK = 3 + 2 * torch.randn(500, COLOUR_STATISTICS)
    known_NK[:, 7] = 3.5  # the same for all
    plain = moved(ColourCorrection(8, 16)).eval()
    normal = ColourCorrection(8, 16, normalised=True).eval()
    normal.load_state_dict(plain.state_dict(), strict=False)
    normal.normalise(known_NK)
    image, prompt, given = image_of(9, 7)[None], torch.ones(1, 8), whole(value=3.5)
    assert not torch.allclose(normal(image, given, prompt), plain(image, given, prompt), atol=1e-3)
    expected_1K = (given.statistics_BK - known_NK.mean(dim=0)) / (known_NK.std(dim=0) + LEAST_DEVIATION)
    expected = plain(image, WholePhoto(statistics_BK=expected_1K, asked_B2=given.asked_B2), prompt)
    assert torch.allclose(normal(image, given, prompt), expected, atol=1e-5)
    loaded = ColourCorrection(8, 16, normalised=True).eval()
    loaded.load_state_dict(normal.state_dict(), strict=True)
    assert torch.equal(loaded(image, given, prompt), normal(image, given, prompt)), "they are saved with the weights"


def test_weights_of_before_have_no_normalisation() -> None:
    correction = ColourCorrection(8, 16)
    layers = ("statistics", "prompt", "mix", "curve")
    assert set(correction.state_dict()) == {f"{name}.{part}" for name in layers for part in ("weight", "bias")}
    with pytest.raises(ValueError, match="as they are"):
        correction.normalise(torch.zeros(2, COLOUR_STATISTICS))


@pytest.mark.parametrize("asked", [LIGHT, COLOUR, BOTH])
def test_an_untrained_correction_is_the_identity_and_ignores_autocast(asked: tuple[float, float]) -> None:
    correction, image = (
        ColourCorrection(8, 16),
        torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(0)) * 3 - 1,
    )
    given = whole(asked, count=2), torch.ones(2, 8)
    assert torch.equal(correction(image, *given), image)
    correction = moved(correction)
    expected = correction(image, *given)
    assert not torch.equal(expected, image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(correction(image, *given), expected)


@pytest.mark.parametrize("training", [True, False])
def test_a_trained_correction_is_the_identity_unless_requested(training: bool) -> None:
    """One photograph of a batch stays unchanged while the other one is corrected."""
    correction = moved(ColourCorrection(8, 16)).train(training)
    image = torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(0)) * 3 - 1
    measured = WholePhoto(statistics_BK=torch.ones(2, COLOUR_STATISTICS), asked_B2=torch.tensor([NEITHER, BOTH]))
    corrected = correction(image, measured, torch.ones(2, 8))
    assert torch.equal(corrected[0], image[0])
    assert (corrected[1] - image[1]).abs().max() > 0.01


def test_correction_is_linear_per_channel_set_by_statistics_and_prompt() -> None:
    correction = moved(ColourCorrection(8, 16))
    ramp = torch.linspace(0, 1, 65).expand(1, 3, 1, 65)
    prompt = torch.ones(1, 8)
    steps = correction(ramp, whole(), prompt).detach().diff(dim=3) * 64
    assert torch.allclose(steps, steps[..., :1].expand_as(steps), atol=1e-4)
    assert len({round(gain, 4) for gain in steps[0, :, 0, 0].tolist()}) == 3
    assert not torch.allclose(correction(ramp, whole(value=-1), prompt), correction(ramp, whole(), prompt), atol=1e-3)
    assert not torch.allclose(correction(ramp, whole(), -prompt), correction(ramp, whole(), prompt), atol=1e-3)


def biased(octaves: tuple[float, float, float], offsets: tuple[float, float, float]) -> ColourCorrection:
    """Make a trained correction with fixed gains (in octaves) and offsets of red, green and blue."""
    correction = ColourCorrection(8, 16).eval()
    with torch.no_grad():
        correction.curve.bias.copy_(torch.tensor((*octaves, *offsets)))
    return correction


def lit(correction: ColourCorrection, *colours: tuple[float, float, float]) -> torch.Tensor:
    """Correct the light of colours [N,3]."""
    image = torch.tensor(colours).T[None, :, None]
    with torch.no_grad():
        corrected: torch.Tensor = correction(image, whole(LIGHT), torch.zeros(1, 8))
    return corrected[0, :, 0].T


def test_a_light_correction_is_equal_for_all_channels() -> None:
    """Only a colour correction may treat channels differently."""
    correction = biased((0.6, 0.2, 0.1), (0.05, 0.01, 0.0))
    grays = lit(correction, (0.2, 0.2, 0.2), (0.5, 0.5, 0.5), (0.9, 0.9, 0.9))
    assert torch.equal(grays[:, :1].expand(-1, 3), grays)
    assert (grays[:, 0] > torch.tensor([0.2, 0.5, 0.9])).all()
    with torch.no_grad():
        coloured = correction(torch.full((1, 3, 1, 1), 0.5), whole(BOTH), torch.zeros(1, 8)).flatten()
    assert len(set(coloured.tolist())) == 3


def test_a_light_correction_keeps_saturated_colours_and_channel_order() -> None:
    correction = biased((0.5, 0.3, 0.4), (0.03, 0.02, 0.01))
    for colour in ((0.8, 0.15, 0.1), (0.1, 0.6, 0.3), (0.2, 0.25, 0.7)):
        (corrected,) = lit(correction, colour)
        assert (corrected.sort().values == corrected[torch.tensor(colour).argsort()]).all()
        assert (corrected >= torch.tensor(colour)).all()
    (red,) = lit(correction, (0.8, 0.0, 0.0))
    assert red[1] == red[2] == 0, "a saturated red stays saturated"
    (yellow,) = lit(correction, (0.7, 0.7, 0.0))
    assert yellow[0] == yellow[1] > 0.7
    assert yellow[2] == 0
    (white,) = lit(correction, (1.0, 1.0, 1.0))
    assert (white >= 1).all(), "white stays white after clipping"


@pytest.mark.parametrize("octaves", [0.2, 1.0, 2.0])
def test_black_stays_black_and_dark_values_are_scaled_like_an_exposure(octaves: float) -> None:
    correction = biased((octaves,) * 3, (0.05,) * 3)
    assert torch.equal(lit(correction, (0.0, 0.0, 0.0)), torch.zeros(1, 3))
    (dark,) = lit(correction, (1e-3, 5e-4, 0.0))
    gain = torch.exp2(torch.tensor(2.4 * octaves)).item()
    # The tolerance covers the fading of small corrections.
    assert dark[0].item() == pytest.approx(1e-3 * gain, rel=0.05)
    assert dark[0].item() == pytest.approx(2 * dark[1].item(), rel=1e-5)
    ramp = lit(correction, *((value, value, value) for value in np.linspace(0, 1, 200).tolist()))
    assert (ramp.diff(dim=0) > 0).all(), "the curve is strictly increasing"


def test_a_light_correction_never_darkens() -> None:
    correction = biased((-0.7, -0.5, -0.6), (-0.1, -0.05, -0.2))
    colours = ((0.0, 0.2, 0.4), (0.9, 0.5, 1.0))
    assert torch.equal(lit(correction, *colours), torch.tensor(colours))
    with torch.no_grad():
        coloured = correction(torch.full((1, 3, 1, 1), 0.5), whole(COLOUR), torch.zeros(1, 8))
    assert (coloured < 0.5).all(), "a colour correction may darken"


def test_a_light_correction_undoes_an_exposure_within_four_codes() -> None:
    """Show that a gain, an offset and a straight toe are enough."""
    clean = np.linspace(0, 1, 400, dtype=np.float32)
    dark = encode_srgb(decode_srgb(clean) / 4)
    correction = biased((2 / 2.4,) * 3, (0.055 * (2 ** (2 / 2.4) - 1),) * 3).train()
    brightened = lit(correction, *((value, value, value) for value in dark.tolist()))[:, 0].numpy()
    assert np.abs(brightened - clean).max() * 255 < 4


def test_small_corrections_fade_in_evaluation_mode() -> None:
    image = torch.linspace(0, 1, 65).expand(1, 3, 1, 65)
    given = whole(COLOUR), torch.ones(1, 8)
    for offset, kept in ((DOUBT / 10, 0.01), (DOUBT, 0.5), (14 * DOUBT, 0.995)):
        correction = ColourCorrection(8, 16)
        with torch.no_grad():
            correction.curve.bias[3:] = offset
            learning = correction.train()(image, *given) - image
            working = correction.eval()(image, *given) - image
        assert torch.allclose(learning, torch.full_like(learning, offset), atol=1e-6)
        assert (working / learning).mean().item() == pytest.approx(kept, abs=0.006)


def test_gradients_come_only_from_requested_corrections() -> None:
    for asked in (LIGHT, COLOUR, BOTH, NEITHER):
        correction = ColourCorrection(8, 16)
        image = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
        correction(image, whole(asked), torch.ones(1, 8)).sum().backward()
        assert bool(correction.curve.bias.grad.abs().sum() > 0) == (asked != NEITHER)


def test_a_plain_backdrop_is_not_varied_but_its_foreground_is() -> None:
    scene = torch.full((3, 10, 12), 0.9)
    assert not varied(scene).any()
    scene[:, 4:7, 5:8] = torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(0)) * 0.5
    expected = torch.zeros(10, 12, dtype=torch.bool)
    expected[4:7, 5:8] = True
    assert torch.equal(varied(scene), expected), "pixels of the backdrop next to the object stay plain"


@pytest.mark.parametrize(("step", "differs"), [(0.9 * PLAIN, False), (1.1 * PLAIN, True)])
@pytest.mark.parametrize("channel", [0, 2])
def test_a_pixel_is_varied_if_one_channel_differs_beyond_noise(channel: int, step: float, differs: bool) -> None:
    """In a gradient every pixel differs from both of its neighbours, or from neither."""
    scene = torch.full((3, 4, 6), 0.5)
    scene[channel] += step * torch.arange(6) + 4 * step * torch.arange(4)[:, None] * differs
    inside = varied(scene)[1:-1, 1:-1]
    assert torch.equal(inside, torch.full((2, 4), differs))


def test_a_single_pixel_is_not_varied() -> None:
    assert not varied(torch.rand(3, 1, 1)).any()


@pytest.mark.parametrize("backdrop", [(1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.9, 0.1, 0.1)])
def test_statistics_ignore_a_plain_backdrop(backdrop: tuple[float, float, float]) -> None:
    """Statistics of a product on a backdrop are nearly those of the product alone; its outline adds a little."""
    product = 0.3 + 0.3 * torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0))
    scene = torch.tensor(backdrop)[:, None, None].repeat(1, 64, 64)
    scene[:, 22:42, 22:42] = product
    found, alone = (quantiles(overview(image))[:, :3] for image in (scene, product))
    everything = torch.stack([(torch.quantile(each, torch.tensor(QUANTILES)) - 0.5) * 4 for each in scene.flatten(1)])
    middle = slice(2, 5)  # the quartiles
    assert (found - alone)[middle].abs().max() < 0.35
    assert (everything.T - alone)[middle].abs().max() > 0.8
    # The size of the backdrop does not matter: eight more rows change nothing.
    seen = overview(scene)
    larger = torch.cat([seen, seen[:, -8:]], dim=1)
    assert torch.equal(colour_statistics(larger), colour_statistics(seen))


@pytest.mark.parametrize("backdrop", [(1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.9, 0.1, 0.1)])
def test_extremes_ignore_a_plain_backdrop_and_the_outline_before_it(backdrop: tuple[float, float, float]) -> None:
    scene = torch.tensor(backdrop)[:, None, None].repeat(1, 640, 640)
    scene[:, 203:427, 203:427] = 0.3 + 0.3 * torch.rand(3, 224, 224, generator=torch.Generator().manual_seed(0))
    low, high, clipped = extremes(overview(scene))
    assert low.min() > 0.25, "no part of the backdrop"
    assert high.max() < 0.65
    assert not clipped.any()


def test_an_entirely_plain_photograph_is_measured_as_a_whole() -> None:
    plain = torch.full((9, 5, 6), 0.75)
    assert torch.equal(quantiles(plain), torch.tensor([1.0, 1.0, 1.0, -2.0]).expand(7, 4))
    low, high, clipped = extremes(plain)
    assert torch.equal(torch.cat([low, high]), torch.full((6, 3), 0.75))
    assert not clipped.any()


@pytest.mark.parametrize("kinds", [(), *((kind,) for kind in KINDS), ("lowlight", "colour"), KINDS])
def test_a_whole_photo_holds_its_statistics_and_requested_corrections(kinds: tuple[str, ...]) -> None:
    seen = overview(image_of(40, 30))
    measured = WholePhoto.of(seen, Request.of(*kinds))
    assert measured.asked_B2.tolist() == [[float("lowlight" in kinds), float("colour" in kinds)]]
    assert torch.equal(measured.statistics_BK, colour_statistics(seen)[None])


def test_no_correction_is_requested_for_an_entirely_plain_photograph() -> None:
    measured = WholePhoto.of(torch.full((9, 8, 8), 0.1), Request.of("lowlight", "colour"))
    assert measured.asked_B2.tolist() == [[0.0, 0.0]]
    correction, image = moved(ColourCorrection(8, 16)).eval(), torch.full((1, 3, 4, 4), 0.1)
    assert torch.equal(correction(image, measured, torch.ones(1, 8)), image)


def test_a_batch_of_whole_photos_can_be_sliced() -> None:
    measured = WholePhoto(statistics_BK=torch.arange(6.0).view(3, 2), asked_B2=torch.tensor([LIGHT, COLOUR, BOTH]))
    one = measured[1:2].to(torch.device("cpu"))
    assert (one.statistics_BK.tolist(), one.asked_B2.tolist()) == ([[2.0, 3.0]], [[0.0, 1.0]])


@pytest.mark.parametrize("stops", [1.0, 2.0])
def test_an_exposure_is_nearly_a_gain_and_an_offset(stops: float) -> None:
    """Show that two numbers per channel are enough: the best line leaves an error below half a code."""
    clean = np.linspace(0.4, 1, 200, dtype=np.float32).reshape(1, 200, 1)
    dark = LowLight(stops=stops, gain=0.0, read=0.0, seed=0)(clean)
    gain, offset = np.polyfit(dark.ravel(), clean.ravel(), 1)
    assert np.abs(dark * gain + offset - clean).max() * 255 < 0.5
    assert gain == pytest.approx(2 ** (stops / 2.4), rel=0.01)
