"""Run the transformer layer by layer in strips, with attention sums over all strips: equal to untiled up to rounding.

Shape suffixes: B batch, C latent channels, H W latent positions, N tokens, D features.

Apart from the token stream, memory does not grow with the image's height.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from sanarestore.flow import Predict
from sanarestore.model.runners.apart import FEED_RADIUS, BlockPass, Shared, embed, shared, velocity
from sanarestore.model.runners.guidance import guided
from sanarestore.model.runners.prompt import Prompt, prompts
from sanarestore.model.transformer import ConditionedTransformer, Tokens


def exact(
    transformer: ConditionedTransformer,
    condition_BCHW: Tensor,
    tokens: Tokens | Prompt,
    *,
    largest: int,
    negative: Tokens | Prompt | None = None,
    guidance: float = 1.0,
) -> Predict:
    """Make a predictor for `Flow.sample` on latents [B,C,H,W] that works in strips of at most `largest` tokens.

    A strip has at least one row. `guidance` as in `guided`.
    """

    def predict(latent_BCHW: Tensor, time: float, prompt: Prompt) -> Tensor:
        time_B = condition_BCHW.new_full((len(latent_BCHW),), time, dtype=torch.float32)
        context = shared(transformer, prompt, time_B)
        return _in_strips(transformer, latent_BCHW, condition_BCHW, context, largest)

    return guided(predict, *prompts(transformer, tokens, negative), guidance)


def _in_strips(
    transformer: ConditionedTransformer, latent_BCHW: Tensor, condition_BCHW: Tensor, context: Shared, largest: int
) -> Tensor:
    patch = int(transformer.config.patch_size)
    rows, columns = (side // patch for side in latent_BCHW.shape[2:])
    # Strips are views of the stream, changed in place, so that no second stream is ever held.
    stream_BND = embed(transformer, latent_BCHW, condition_BCHW)
    stream_BHWD = stream_BND.view(len(stream_BND), rows, columns, -1)
    strips = list(_strips(rows, max(largest // columns, 1)))
    for layer in transformer.blocks:
        block = BlockPass(layer, context)
        sums_Bhed: Tensor | None = None
        for strip in strips:
            sums_Bhed = block.key_sums(stream_BHWD[:, strip].flatten(1, 2), state_Bhed=sums_Bhed)
        assert sums_Bhed is not None, "an image has a strip"
        for strip in strips:
            attended_BND = block.attend(stream_BHWD[:, strip].flatten(1, 2), sums_Bhed)
            stream_BHWD[:, strip] = attended_BND.reshape(stream_BHWD[:, strip].shape)
        _feed(block, stream_BHWD, strips)
    found = [velocity(transformer, stream_BHWD[:, strip].flatten(1, 2), context, columns=columns) for strip in strips]
    return torch.cat(found, dim=2)


def _feed(block: BlockPass, stream_BHWD: Tensor, strips: list[slice]) -> None:
    """Apply the feed-forward in place; each strip reads the original rows around it."""
    above_BHWD = stream_BHWD[:, :0]
    for strip in strips:
        window = torch.cat([above_BHWD, stream_BHWD[:, strip.start : strip.stop + FEED_RADIUS]], dim=1)
        added = block.feed(window)[:, above_BHWD.shape[1] :][:, : strip.stop - strip.start]
        above_BHWD = stream_BHWD[:, strip][:, -FEED_RADIUS:].clone()
        stream_BHWD[:, strip] += added


def _strips(rows: int, largest: int) -> Iterator[slice]:
    """The fewest strips of at most `largest` rows, nearly equal."""
    count = -(-rows // largest)
    for index in range(count):
        yield slice(index * rows // count, (index + 1) * rows // count)
