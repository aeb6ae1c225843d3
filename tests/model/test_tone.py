"""The tone: measured on the whole photograph, the same wherever it is looked at from, the identity before training."""

import numpy as np
import pytest
import torch

from sanarestore.degradations.operations import LowLight
from sanarestore.model.tone import DOUBT, OVERVIEW_SIDE, QUANTILES, TONE_STATISTICS, Tone, overview, tone_statistics
from tests.conftest import photo


def image_of(height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(photo(height, width)).permute(2, 0, 1)


def moved(tone: Tone) -> Tone:
    with torch.no_grad():
        for parameter in tone.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    return tone


@pytest.mark.parametrize(
    ("size", "expected"),
    [((128, 256), (32, 64)), ((1, 1), (1, 1)), ((40, 30), (40, 30)), ((1, 900), (1, 64)), ((641, 300), (64, 30))],
)
def test_an_overview_is_of_bounded_size_and_keeps_the_mean(size: tuple[int, int], expected: tuple[int, int]) -> None:
    image = image_of(*size)
    seen = overview(image)
    assert seen.shape == (3, *expected)
    assert max(seen.shape) <= OVERVIEW_SIDE
    assert torch.allclose(seen.mean(dim=(1, 2)), image.mean(dim=(1, 2)), atol=0.005)


def test_an_overview_holds_means_of_rectangles() -> None:
    image = image_of(128, 256)
    assert torch.allclose(overview(image), torch.nn.functional.avg_pool2d(image, 4), atol=1e-6)
    assert torch.equal(overview(image_of(40, 30)), image_of(40, 30)), "a small one is what it is"


def test_an_overview_clips_before_it_averages() -> None:
    spikes = torch.zeros(3, 128, 128)
    spikes[:, ::2] = 3.0
    spikes[:, 1::2] = -1.0
    assert torch.equal(overview(spikes), torch.full((3, 64, 64), 0.5))


def test_a_gray_view_is_taken_as_it_is() -> None:
    gray = torch.rand(1, 100, 70, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1)
    assert torch.equal(overview(gray)[0], overview(gray)[2])


def test_the_statistics_are_quantiles_wherever_values_stand() -> None:
    seen = overview(image_of(90, 64))
    found = tone_statistics(seen)
    assert found.shape == (TONE_STATISTICS,)
    shuffled = seen.flatten(1)[:, torch.randperm(seen[0].numel(), generator=torch.Generator().manual_seed(0))]
    assert torch.equal(tone_statistics(shuffled[:, None]), found)
    expected = (np.quantile(seen[0].numpy(), QUANTILES) - 0.5) * 4
    assert found.view(len(QUANTILES), 4)[:, 0].numpy() == pytest.approx(expected, abs=1e-4)
    gray = tone_statistics(torch.full((3, 4, 4), 0.25)).view(len(QUANTILES), 4)
    assert torch.equal(gray, torch.tensor([-1.0, -1.0, -1.0, -2.0]).expand(len(QUANTILES), 4)), "no saturation"


def test_untrained_it_changes_no_bit_under_autocast_either() -> None:
    tone, image = Tone(8, 16), torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(0)) * 3 - 1
    given = torch.ones(2, TONE_STATISTICS), torch.ones(2, 8)
    assert torch.equal(tone(image, *given), image)
    tone = moved(tone)
    expected = tone(image, *given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(tone(image, *given), expected)


def test_it_is_one_line_per_channel_that_statistics_and_prompt_decide() -> None:
    tone = moved(Tone(8, 16))
    ramp = torch.linspace(0, 1, 65).expand(1, 3, 1, 65)
    statistics, prompt = torch.ones(1, TONE_STATISTICS), torch.ones(1, 8)
    steps = tone(ramp, statistics, prompt).detach().diff(dim=3) * 64
    assert torch.allclose(steps, steps[..., :1].expand_as(steps), atol=1e-4)
    assert len({round(gain, 4) for gain in steps[0, :, 0, 0].tolist()}) == 3
    assert not torch.allclose(tone(ramp, -statistics, prompt), tone(ramp, statistics, prompt), atol=1e-3)
    assert not torch.allclose(tone(ramp, statistics, -prompt), tone(ramp, statistics, prompt), atol=1e-3)


def test_small_corrections_fade_once_it_is_trained() -> None:
    image = torch.linspace(0, 1, 65).expand(1, 3, 1, 65)
    given = torch.ones(1, TONE_STATISTICS), torch.ones(1, 8)
    for offset, kept in ((0.002, 0.01), (DOUBT, 0.5), (0.3, 0.995)):
        tone = Tone(8, 16)
        with torch.no_grad():
            tone.curve.bias[3:] = offset
            learning = tone.train()(image, *given) - image
            working = tone.eval()(image, *given) - image
        assert torch.allclose(learning, torch.full_like(learning, offset), atol=1e-6)
        assert (working / learning).mean().item() == pytest.approx(kept, abs=0.006)


@pytest.mark.parametrize("stops", [1.0, 2.0])
def test_an_exposure_is_a_gain_and_an_offset(stops: float) -> None:
    """Why two numbers a channel are enough: what remains of darkness beside the best line is below half a code."""
    clean = np.linspace(0.4, 1, 200, dtype=np.float32).reshape(1, 200, 1)
    dark = LowLight(stops=stops, gain=0.0, read=0.0, seed=0)(clean)
    gain, offset = np.polyfit(dark.ravel(), clean.ravel(), 1)
    assert np.abs(dark * gain + offset - clean).max() * 255 < 0.5
    assert gain == pytest.approx(2 ** (stops / 2.4), rel=0.01)
