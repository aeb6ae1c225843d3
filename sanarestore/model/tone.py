"""The tone of a whole photograph: wrong light and colour, which no place of it shows by itself.

It is corrected only where a prompt asks for light or colour.

A network that sees 95 px around a pixel cannot tell a tinted wall from a tinted photograph. What lies below 1% and
above 99% of each channel's values, and how saturated the photograph is, says a good deal. These are measured once on
the whole photograph, so that every tile is given the same.

Shape suffixes: B batch, C channels, H W pixels, h w cells of an overview, K statistics, D prompt features.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sanarestore.degradations.requests import Request

OVERVIEW_SIDE = 64
"""Cells along the longer side of an overview, at most."""

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)

PLAIN = 0.25 / 255
"""Difference between two cells, of values in [0, 1], up to which they may be of one plain backdrop: noise is averaged
away to about this, and what is in a photograph differs by more."""

DOUBT = 0.02
"""Root mean square change, of values in [0, 1], that counts for half."""

SRGB_POWER = 2.4
"""Exponent of sRGB's curve above its toe (IEC 61966-2-1)."""

TONE_STATISTICS = 4 * len(QUANTILES)
"""Quantiles of red, green, blue and saturation."""


def overview(image_CHW: Tensor) -> Tensor:
    """Means over equal rectangles of a photograph [3,H,W], clipped to [0,1] -> [3,h,w]; noise is averaged away."""
    height, width = image_CHW.shape[1:]
    cell = max(height, width, OVERVIEW_SIDE) / OVERVIEW_SIDE
    rows, columns = (max(1, round(side / cell)) for side in (height, width))
    strips = []
    for row in range(rows):
        # A strip at a time, because a clipped copy of a large photo is as large. Bounds as of adaptive pooling.
        strip = image_CHW[:, row * height // rows : -(-(row + 1) * height // rows)]
        strips.append(F.adaptive_avg_pool2d(strip.float().clamp(0, 1), (1, columns)))
    return torch.cat(strips, dim=1)


def varied(overview_Chw: Tensor) -> Tensor:
    """Which cells of an `overview` are not of a plain backdrop, [h,w].

    A cell of a backdrop is within `PLAIN` of two of the cells beside it, or of all where it has fewer, in every
    channel; its colour was chosen, and says nothing of exposure or colour cast.
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


def tone_statistics(overview_Chw: Tensor) -> Tensor:
    """Quantiles of an `overview`, [K], about -2 to 2; where in the photograph a value stands does not matter.

    Of its `varied` cells; of all where none is.
    """
    varied_hw = varied(overview_Chw)
    channels_CN = overview_Chw[:, varied_hw] if varied_hw.any() else overview_Chw.flatten(1)
    saturation_1N = channels_CN.amax(dim=0, keepdim=True) - channels_CN.amin(dim=0, keepdim=True)
    levels = torch.tensor(QUANTILES, device=overview_Chw.device)
    found: Tensor = torch.quantile(torch.cat([channels_CN, saturation_1N]), levels, dim=1)
    return (found - 0.5).flatten() * 4


@dataclass(frozen=True, kw_only=True, slots=True)
class WholePhoto:
    """Statistics of whole photographs, for a network that sees a part of each."""

    statistics_BK: Tensor
    """The `tone_statistics` of each."""
    asked_B2: Tensor
    """1 where another light (first column) or other colours (second) are asked for, 0 elsewhere."""

    @classmethod
    def of(cls, overview_Chw: Tensor, request: Request) -> "WholePhoto":
        """For one photograph; nothing is asked for where nothing in it varies, because nothing is known then."""
        asked_12 = torch.tensor([[float(request.is_lit), float(request.is_coloured)]], device=overview_Chw.device)
        known = bool(varied(overview_Chw).any())
        return cls(statistics_BK=tone_statistics(overview_Chw)[None], asked_B2=asked_12 * known)

    def to(self, device: torch.device) -> "WholePhoto":
        """The same on a device."""
        return WholePhoto(statistics_BK=self.statistics_BK.to(device), asked_B2=self.asked_B2.to(device))

    def __getitem__(self, chosen: slice) -> "WholePhoto":
        """Some of the photographs."""
        return WholePhoto(statistics_BK=self.statistics_BK[chosen], asked_B2=self.asked_B2[chosen])


class Tone(nn.Module):
    """A gain and an offset per channel, from the photograph's statistics and the prompt; the identity before training.

    An exposure in linear light is just that in encoded values above the toe of sRGB: 1.055 (k x)^(1/2.4) - 0.055.
    Once trained, corrections below `DOUBT` fade away: a photograph that needs none shall keep its values. In training
    they count, or nothing would begin.
    """

    def __init__(self, prompt_width: int, features: int) -> None:
        super().__init__()
        self.statistics = nn.Linear(TONE_STATISTICS, features)
        self.prompt = nn.Linear(prompt_width, features)
        self.mix = nn.Linear(features, features)
        self.curve = nn.Linear(features, 6)
        nn.init.zeros_(self.curve.weight)
        nn.init.zeros_(self.curve.bias)

    def forward(self, image_BCHW: Tensor, whole: WholePhoto, prompt_BD: Tensor) -> Tensor:
        """[B,3,H,W] and [B,D] -> [B,3,H,W], not clipped; the image itself where neither light nor colour is asked for.

        A change of light alone is one gain and one offset for all channels, at least 1 and 0, so that no hue changes;
        and black stays black, since values end at `exp2(2.4 octaves) x`, which is what an exposure makes of sRGB's toe.
        """
        # Whatever autocast is in force: a gain rounded to bf16 would move 16-bit codes.
        with torch.autocast(image_BCHW.device.type, enabled=False):
            hidden = F.relu(self.statistics(whole.statistics_BK.float()) + self.prompt(prompt_BD.float()))
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
            toned_BCHW = torch.addcmul(offset_BC11, image_BCHW, gain_BC11)
            toe_BCHW = image_BCHW * gain_BC11**SRGB_POWER
            return torch.where(only_lit_B1[..., None, None] > 0, torch.minimum(toned_BCHW, toe_BCHW), toned_BCHW)


def _certainty(octaves_BC: Tensor, offset_BC: Tensor) -> Tensor:
    """How much of a correction counts, [B,1]: c^2 / (c^2 + DOUBT^2), c its change of black, mid-gray and white."""
    values = torch.tensor((0.0, 0.5, 1.0), device=offset_BC.device)
    change_BCV = (torch.exp2(octaves_BC) - 1)[..., None] * values + offset_BC[..., None]
    energy_B1 = change_BCV.square().mean(dim=(1, 2))[:, None]
    return energy_B1 / (energy_B1 + DOUBT**2)
