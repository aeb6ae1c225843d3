"""Run the transformer on the frames of a clip, with state carried from frame to frame; its size does not grow.

Shape suffixes: B batch, C latent channels, H W latent positions, N tokens, D features, h heads, d features of a head,
e = d + 1, F frames before.

As in SANA-Video (Chen et al. 2025): a frame attends to itself and to all frames before, by the sums of linear attention
that are carried on, here decayed so that old frames fade; and the feed-forward also convolves over time, looking back
only. The convolution begins as zero, so that a transformer of single frames stays what it is. Without decay and
convolution, every frame is restored by itself, to the bit.

No option of `restore` uses this runner: with weights that were trained on single frames it gains nothing.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sanarestore.flow import Predict
from sanarestore.model.runners.apart import BlockPass, embed, shared, velocity
from sanarestore.model.runners.guidance import guided
from sanarestore.model.runners.prompt import Prompt, prompts
from sanarestore.model.transformer import ConditionedTransformer, Tokens

FRAMES_BEFORE = 2
"""Frames before the present one that the convolution over time reads."""

_Call = tuple[float, bool]
"""Time of a call of the transformer, and whether it is for the negative prompt; each has a state of its own."""


class TemporalFeed(nn.Module):
    """Causal convolutions over time behind the feed-forward of every block, zero at the beginning."""

    def __init__(self, width: int, layers: int, frames_before: int = FRAMES_BEFORE) -> None:
        """`width` is the number of features D of `layers` blocks."""
        super().__init__()
        self.weights_FDD = nn.ParameterList(
            nn.Parameter(torch.zeros(frames_before + 1, width, width)) for _ in range(layers)
        )
        """One tensor for each block: matrices for the present frame, the frame before, and so on."""

    def forward(self, layer: int, fed: list[Tensor]) -> Tensor:
        """The residual of block `layer`, [B,H,W,D], from that of the present frame and of those before it."""
        mixed_BHWD = fed[0]
        for weight_DD, fed_BHWD in zip(self.weights_FDD[layer], fed, strict=False):
            mixed_BHWD = mixed_BHWD + fed_BHWD @ weight_DD
        return mixed_BHWD


@dataclass
class Carried:
    """What a clip carries on, for every call of a frame and every block."""

    sums: dict[_Call, list[Tensor]] = field(default_factory=dict)
    """Decayed sums of linear attention, [B,h,e,d] in float32 each."""
    fed: dict[_Call, list[list[Tensor]]] = field(default_factory=dict)
    """Residuals of the feed-forward in the frames before, the last one first, [B,H,W,D] each."""

    def reset(self) -> None:
        """Begin another scene."""
        self.sums.clear()
        self.fed.clear()


def carried(
    transformer: ConditionedTransformer,
    condition_BCHW: Tensor,
    tokens: Tokens | Prompt,
    state: Carried,
    *,
    decay: float,
    feed: TemporalFeed | None = None,
    negative: Tokens | Prompt | None = None,
    guidance: float = 1.0,
) -> Predict:
    """Make a predictor for `Flow.sample` on the latent [B,C,H,W] of one frame, which reads and changes `state`.

    `decay` in [0,1] is the weight of the frames before: 0 forgets them, 1 keeps all. Every frame takes the same times
    and the same noise. `guidance` as in `guided`.
    """
    prompt, unread = prompts(transformer, tokens, negative)

    def predict(latent_BCHW: Tensor, time: float, prompt: Prompt) -> Tensor:
        call = (time, prompt is unread)
        return _frame(transformer, latent_BCHW, condition_BCHW, prompt, call, state, decay, feed)

    return guided(predict, prompt, unread, guidance)


def _frame(
    model: ConditionedTransformer, latent_BCHW: Tensor, condition_BCHW: Tensor, prompt: Prompt, call: _Call,
    state: Carried, decay: float, feed: TemporalFeed | None,
) -> Tensor:  # fmt: skip
    patch = int(model.config.patch_size)
    rows, columns = (side // patch for side in latent_BCHW.shape[2:])
    context = shared(model, prompt, condition_BCHW.new_full((len(latent_BCHW),), call[0], dtype=torch.float32))
    hidden_BND = embed(model, latent_BCHW, condition_BCHW)
    sums_before, fed_before = state.sums.get(call), state.fed.get(call)
    sums: list[Tensor] = []
    fed: list[list[Tensor]] = []
    for layer, each in enumerate(model.blocks):
        block = BlockPass(each, context)
        before_Bhed = None if sums_before is None or decay == 0 else decay * sums_before[layer]
        sums.append(block.key_sums(hidden_BND, state_Bhed=before_Bhed))
        hidden_BHWD = block.attend(hidden_BND, sums[-1]).unflatten(1, (rows, columns))  # type: ignore[no-untyped-call]
        fed_BHWD = block.feed(hidden_BHWD)
        if feed is not None:
            known = [fed_BHWD, *(fed_before[layer] if fed_before is not None else [])]
            fed.append(known[: len(feed.weights_FDD[layer]) - 1])
            fed_BHWD = feed(layer, known)
        hidden_BND = (hidden_BHWD + fed_BHWD).flatten(1, 2)
    state.sums[call] = sums
    if feed is not None:
        state.fed[call] = fed
    return velocity(model, hidden_BND, context, columns=columns)
