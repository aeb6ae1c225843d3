"""The tone of a whole photograph: wrong light and colour, which no place of it shows by itself.

A network that sees 95 px around a pixel cannot tell a tinted wall from a tinted photograph. What lies below 1% and
above 99% of each channel's values, and how saturated the photograph is, says a good deal. These are measured once on
the whole photograph, so that every tile is given the same.

Shape suffixes: B batch, C channels, H W pixels, h w cells of an overview, K statistics, D prompt features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OVERVIEW_SIDE = 64
"""Cells along the longer side of an overview, at most."""

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)

DOUBT = 0.02
"""Root mean square change, of values in [0, 1], that counts for half."""

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


def tone_statistics(overview_Chw: Tensor) -> Tensor:
    """Quantiles of an `overview`, [K], about -2 to 2; where in the photograph a value stands does not matter."""
    channels_CN = overview_Chw.flatten(1)
    saturation_1N = channels_CN.amax(dim=0, keepdim=True) - channels_CN.amin(dim=0, keepdim=True)
    levels = torch.tensor(QUANTILES, device=overview_Chw.device)
    found: Tensor = torch.quantile(torch.cat([channels_CN, saturation_1N]), levels, dim=1)
    return (found - 0.5).flatten() * 4


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

    def forward(self, image_BCHW: Tensor, tone_BK: Tensor, prompt_BD: Tensor) -> Tensor:
        """[B,3,H,W], [B,K] and [B,D] -> [B,3,H,W], not clipped."""
        # Whatever autocast is in force: a gain rounded to bf16 would move 16-bit codes.
        with torch.autocast(image_BCHW.device.type, enabled=False):
            hidden = F.relu(self.statistics(tone_BK.float()) + self.prompt(prompt_BD.float()))
            octaves_BC, offset_BC = self.curve(F.relu(self.mix(hidden))).chunk(2, dim=1)
            if not self.training:
                certainty_B1 = _certainty(octaves_BC, offset_BC)
                octaves_BC, offset_BC = octaves_BC * certainty_B1, offset_BC * certainty_B1
            gain_BC = torch.exp2(octaves_BC)
            return torch.addcmul(offset_BC[:, :, None, None], image_BCHW.float(), gain_BC[:, :, None, None])


def _certainty(octaves_BC: Tensor, offset_BC: Tensor) -> Tensor:
    """How much of a correction counts, [B,1]: c^2 / (c^2 + DOUBT^2), c its change of black, mid-gray and white."""
    values = torch.tensor((0.0, 0.5, 1.0), device=offset_BC.device)
    change_BCV = (torch.exp2(octaves_BC) - 1)[..., None] * values + offset_BC[..., None]
    energy_B1 = change_BCV.square().mean(dim=(1, 2))[:, None]
    return energy_B1 / (energy_B1 + DOUBT**2)
