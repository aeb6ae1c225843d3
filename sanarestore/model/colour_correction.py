"""Global colour correction: gain and offset for a whole photograph, where a prompt asks for light or colour.

A network with a receptive field of 95 px around a pixel cannot tell a tinted wall from a tinted photograph. The range
of each channel and the photograph's saturation help to tell: nearly every photograph has small parts that are black and
small parts that are white. They are measured once on the whole photograph, so that all tiles get the same correction.

Shape suffixes: B batch, C channels, H W pixels, h w cells of an overview, N cells, K statistics, D prompt features.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sanarestore.degradations.requests import Request

OVERVIEW_SIDE = 64
"""Largest number of cells along the longer side of an overview."""

PARTS = 4
"""Parts of a cell along each of its sides, of which an overview holds the darkest and the brightest."""

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)

EXTREMES = (0.0, 0.01, 0.05)
"""Quantiles of the darkest parts of cells; mirrored, of the brightest."""

SMOOTH = 0.1
"""Quantile of the ranges within cells that is taken for noise: the cells of least detail."""

CLIPPED = 1 / 255
"""Distance from 0 or 1 up to which values count as clipped."""

PLAIN = 0.25 / 255
"""Largest difference between two cells of one plain backdrop, of values in [0, 1]: about the noise that averaging
leaves, and less than the differences within image content."""

DOUBT = 0.04
"""Root mean square change, of values in [0, 1], at which a correction is halved."""

LEAST_DEVIATION = 0.01
"""Added to the standard deviation of each statistic, because some hardly vary."""

SRGB_POWER = 2.4
"""Exponent of sRGB's curve above its toe (IEC 61966-2-1)."""

QUANTILE_STATISTICS = 4 * len(QUANTILES)
"""Number of quantiles of red, green, blue and saturation, which come first among the statistics."""

COLOUR_STATISTICS = QUANTILE_STATISTICS + 6 * (len(EXTREMES) + 1)
"""Number K of statistics: those quantiles, the extremes of each channel, and how much of it is clipped."""


def overview(image_CHW: Tensor) -> Tensor:
    """Reduce a photograph [3,H,W], clipped to [0,1], to equal cells [9,h,w].

    The first three channels are the means of cells, which averages noise away; the next three are the means of each
    cell's darkest part, and the last three of its brightest, channel by channel.
    """
    return overview_of_rows(lambda top, bottom: image_CHW[:, top:bottom], *image_CHW.shape[1:])


def overview_of_rows(rows: Callable[[int, int], Tensor], height: int, width: int) -> Tensor:
    """Return the `overview` of a photograph of this size, of which `rows` gives rows [3,h,W] from the top down."""
    _, columns = _cells(height, width)
    strips = []
    for top, bottom in overview_rows(height, width):
        # One strip at a time, because a clipped copy of a large photo is as large.
        strip = rows(top, bottom).float().clamp(0, 1)
        part_Cpq = F.adaptive_avg_pool2d(strip, (PARTS, PARTS * columns)).reshape(3, PARTS, columns, PARTS)
        mean_C1w = F.adaptive_avg_pool2d(strip, (1, columns))
        strips.append(torch.cat([mean_C1w, part_Cpq.amin(dim=(1, 3))[:, None], part_Cpq.amax(dim=(1, 3))[:, None]]))
    return torch.cat(strips, dim=1)


def overview_rows(height: int, width: int) -> list[tuple[int, int]]:
    """First row and end of each row of cells of an overview, in pixels; bounds as in adaptive pooling."""
    rows, _ = _cells(height, width)
    return [(row * height // rows, -(-(row + 1) * height // rows)) for row in range(rows)]


def _cells(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of cells of an overview."""
    cell = max(height, width, OVERVIEW_SIDE) / OVERVIEW_SIDE
    return max(1, round(height / cell)), max(1, round(width / cell))


def varied(overview_Chw: Tensor) -> Tensor:
    """Mask [h,w] of the cells, given by their means [3,h,w], that do not belong to a plain backdrop.

    A backdrop cell is within `PLAIN` of at least two of the cells beside it, or of all if it has fewer, in every
    channel. Its colour was chosen by the photographer, and says nothing of exposure or colour cast.
    """
    height, width = overview_Chw.shape[1:]
    alike_hw, beside_hw = (torch.zeros(height, width, dtype=torch.int32, device=overview_Chw.device) for _ in range(2))
    for axis in (1, 2):
        one, other = (slice(None, -1), slice(1, None))
        ahead, behind = ((slice(None),) * axis + (each,) for each in (one, other))
        alike = ((overview_Chw[ahead] - overview_Chw[behind]).abs() <= PLAIN).all(dim=0).int()
        for place in (ahead[1:], behind[1:]):
            alike_hw[place] += alike
            beside_hw[place] += 1
    found_hw: Tensor = alike_hw < beside_hw.clamp(max=2)
    return found_hw


def colour_statistics(overview_Chw: Tensor) -> Tensor:
    """Statistics of the `varied` cells of an `overview` [9,h,w], or of all cells if none varies: [K], about -2 to 2.

    Apart from which cells lie beside a plain one, their positions do not matter.
    """
    varied_hw = varied(overview_Chw[:3])
    varied_hw = varied_hw if varied_hw.any() else torch.ones_like(varied_hw)
    channels_CN = overview_Chw[:3, varied_hw]
    saturation_1N = channels_CN.amax(dim=0, keepdim=True) - channels_CN.amin(dim=0, keepdim=True)
    levels = torch.tensor(QUANTILES, device=overview_Chw.device)
    found: Tensor = torch.quantile(torch.cat([channels_CN, saturation_1N]), levels, dim=1)
    inner_hw = _inner(varied_hw)
    return torch.cat([(found - 0.5).flatten() * 4, _extremes(overview_Chw[:, inner_hw])])


def _inner(varied_hw: Tensor) -> Tensor:
    """The varied cells without a plain one beside them, whose parts may show the backdrop; all, if there are none."""
    beside_hw: Tensor = F.max_pool2d((~varied_hw)[None].float(), 3, stride=1, padding=1)[0] > 0
    return varied_hw if beside_hw.all() else ~beside_hw


def _extremes(cells_CN: Tensor) -> Tensor:
    """Quantiles of the darkest and brightest parts of cells [9,N], and logarithms of the shares that are clipped."""
    mean_CN, low_CN, high_CN = cells_CN.chunk(3)
    clipped = torch.cat([(low_CN <= CLIPPED).float().mean(dim=1), (high_CN >= 1 - CLIPPED).float().mean(dim=1)])
    # The extremes of noise add to those of detail as squares do.
    noise_C1 = torch.quantile(high_CN - low_CN, SMOOTH, dim=1)[:, None] / 2
    low_CN, high_CN = (
        mean_CN + sign * ((each_CN - mean_CN).square() - noise_C1.square()).clamp(min=0).sqrt()
        for sign, each_CN in ((-1, low_CN), (1, high_CN))
    )
    levels = torch.tensor(EXTREMES, device=cells_CN.device)
    found = [torch.quantile(low_CN, levels, dim=1), torch.quantile(high_CN, 1 - levels, dim=1)]
    return torch.cat([(torch.cat(found) - 0.5).flatten() * 4, torch.log1p(100 * clipped) / 2])


@dataclass(frozen=True, kw_only=True, slots=True)
class WholePhoto:
    """Statistics of whole photographs, for a network that processes each in tiles."""

    statistics_BK: Tensor
    """`colour_statistics` of each photograph."""
    asked_B2: Tensor
    """1 where a correction of light (first column) or colour (second) is requested, 0 elsewhere."""

    @classmethod
    def of(cls, overview_Chw: Tensor, request: Request) -> "WholePhoto":
        """Measure one photograph; no correction is requested if nothing varies, because statistics then say nothing."""
        asked_12 = torch.tensor([[float(request.is_lit), float(request.is_coloured)]], device=overview_Chw.device)
        known = bool(varied(overview_Chw[:3]).any())
        return cls(statistics_BK=colour_statistics(overview_Chw)[None], asked_B2=asked_12 * known)

    def to(self, device: torch.device) -> "WholePhoto":
        """Copy to a device."""
        return WholePhoto(statistics_BK=self.statistics_BK.to(device), asked_B2=self.asked_B2.to(device))

    def __getitem__(self, chosen: slice) -> "WholePhoto":
        """Select some of the photographs."""
        return WholePhoto(statistics_BK=self.statistics_BK[chosen], asked_B2=self.asked_B2[chosen])


class ColourCorrection(nn.Module):
    """Gain and offset per channel, from a photograph's statistics and the prompt; the identity before training.

    A change of exposure in linear light is a gain and an offset of encoded values above the toe of sRGB:
    1.055 (k x)^(1/2.4) - 0.055. In inference, corrections below `DOUBT` fade out, so that a photograph that needs none
    keeps its values. In training they count in full; otherwise learning could not start from zero.
    """

    centre: Tensor | None
    deviation: Tensor | None

    def __init__(
        self, prompt_width: int, features: int, statistics: int = COLOUR_STATISTICS, *, normalised: bool = False
    ) -> None:
        """`statistics` is how many of the `colour_statistics` are read, from the first on.

        If they are `normalised`, a mean and a deviation of each are saved with the weights; `normalise` sets them.
        """
        super().__init__()
        self.register_buffer("centre", torch.zeros(statistics) if normalised else None)
        self.register_buffer("deviation", torch.ones(statistics) if normalised else None)
        self.statistics = nn.Linear(statistics, features)
        self.prompt = nn.Linear(prompt_width, features)
        self.mix = nn.Linear(features, features)
        self.curve = nn.Linear(features, 6)
        nn.init.zeros_(self.curve.weight)
        nn.init.zeros_(self.curve.bias)

    @torch.no_grad()
    def normalise(self, statistics_NK: Tensor) -> None:
        """Take the mean and deviation of each statistic from those of training photographs [N,K], before training."""
        if self.centre is None or self.deviation is None:
            raise ValueError("this correction reads its statistics as they are")
        read_NK = statistics_NK[:, : self.statistics.in_features]
        self.centre.copy_(read_NK.mean(dim=0))
        self.deviation.copy_(read_NK.std(dim=0) + LEAST_DEVIATION)

    def forward(self, image_BCHW: Tensor, whole: WholePhoto, prompt_BD: Tensor) -> Tensor:
        """[B,3,H,W] and [B,D] -> [B,3,H,W], not clipped; unchanged where neither light nor colour is requested.

        Where only light is requested, all channels share one gain, at least 1, and one offset, at least 0, so that no
        hue changes. Black stays black: values are limited to `exp2(2.4 octaves) x`, the effect of an exposure on
        sRGB's toe.
        """
        # No autocast: a gain rounded to bf16 would move 16-bit codes.
        with torch.autocast(image_BCHW.device.type, enabled=False):
            statistics_BK = whole.statistics_BK[:, : self.statistics.in_features].float()
            if self.centre is not None and self.deviation is not None:
                statistics_BK = (statistics_BK - self.centre) / self.deviation
            hidden = F.relu(self.statistics(statistics_BK) + self.prompt(prompt_BD.float()))
            octaves_BC, offset_BC = self.curve(F.relu(self.mix(hidden))).chunk(2, dim=1)
            lit_B1, coloured_B1 = whole.asked_B2.float().chunk(2, dim=1)
            only_lit_B1 = lit_B1 * (1 - coloured_B1)
            octaves_BC, offset_BC = (
                torch.lerp(each_BC, each_BC.mean(dim=1, keepdim=True).clamp(min=0), only_lit_B1)
                * torch.maximum(lit_B1, coloured_B1)
                for each_BC in (octaves_BC, offset_BC)
            )
            if not self.training:
                certainty_B1 = _certainty(octaves_BC, offset_BC)
                octaves_BC, offset_BC = octaves_BC * certainty_B1, offset_BC * certainty_B1
            image_BCHW = image_BCHW.float()
            gain_BC11, offset_BC11 = torch.exp2(octaves_BC)[:, :, None, None], offset_BC[:, :, None, None]
            corrected_BCHW = torch.addcmul(offset_BC11, image_BCHW, gain_BC11)
            toe_BCHW = image_BCHW * gain_BC11**SRGB_POWER
            return torch.where(
                only_lit_B1[..., None, None] > 0, torch.minimum(corrected_BCHW, toe_BCHW), corrected_BCHW
            )


def _certainty(octaves_BC: Tensor, offset_BC: Tensor) -> Tensor:
    """Weight of a correction, [B,1]: c^2 / (c^2 + DOUBT^2), c the RMS change of black, mid-gray and white."""
    values = torch.tensor((0.0, 0.5, 1.0), device=offset_BC.device)
    change_BCV = (torch.exp2(octaves_BC) - 1)[..., None] * values + offset_BC[..., None]
    energy_B1 = change_BCV.square().mean(dim=(1, 2))[:, None]
    return energy_B1 / (energy_B1 + DOUBT**2)
