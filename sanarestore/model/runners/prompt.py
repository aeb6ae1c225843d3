"""A prompt for the cross-attention of a transformer's blocks, projected once for all times and windows.

Shape suffixes: B batch, N tokens, L prompt tokens, D features, h heads, d features of a head.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from sanarestore.model.transformer import ConditionedTransformer, Tokens

MASKED = -10000.0
"""Added to the logits of padding, as in diffusers."""


class Prompt:
    """Keys and values of a prompt for every cross-attention, computed at a block's first call and kept.

    At 1.6B these are 2.7 MB a layer for 300 tokens in half precision. A batch of one serves any number of images.
    """

    def __init__(self, model: ConditionedTransformer, tokens: Tokens) -> None:
        self._model = model
        self._tokens = tokens
        self._projected_BLD: Tensor | None = None
        self._kept: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        self._bias_B11L = ((1 - tokens.mask_BL.to(model.dtype)) * MASKED)[:, None, None]

    def cross_attend(self, attention: Any, hidden_BND: Tensor) -> Tensor:
        """Cross-attention of image tokens to the prompt, through the layers of a block, [B,N,D]."""
        key_BhLd, value_BhLd = (each.expand(len(hidden_BND), -1, -1, -1) for each in self._keys_values(attention))
        query_BhNd = _by_head(_normed(attention.to_q(hidden_BND), attention.norm_q), attention)
        mean_BhNd = F.scaled_dot_product_attention(query_BhNd, key_BhLd, value_BhLd, attn_mask=self._bias_B11L)
        read_BND = mean_BhNd.transpose(1, 2).flatten(2)
        for layer in attention.to_out:
            read_BND = layer(read_BND)
        scaled_BND: Tensor = read_BND / attention.rescale_output_factor
        return scaled_BND

    def _keys_values(self, attention: Any) -> tuple[Tensor, Tensor]:
        if attention not in self._kept:
            prompt_BLD = self._projected()
            key_BLD = _normed(attention.to_k(prompt_BLD), attention.norm_k)
            self._kept[attention] = _by_head(key_BLD, attention), _by_head(attention.to_v(prompt_BLD), attention)
        return self._kept[attention]

    def _projected(self) -> Tensor:
        if self._projected_BLD is None:
            transformer: Any = self._model.transformer
            token_BLD = self._tokens.token_BLD.to(self._model.dtype)
            self._projected_BLD = transformer.caption_norm(transformer.caption_projection(token_BLD))
        return self._projected_BLD


def prompts(
    model: ConditionedTransformer, tokens: Tokens | Prompt, negative: Tokens | Prompt | None
) -> tuple[Prompt, Prompt | None]:
    """Convert prompt and negative prompt to `Prompt`, unless they are converted already."""

    def projected(text: Tokens | Prompt) -> Prompt:
        return text if isinstance(text, Prompt) else Prompt(model, text)

    return projected(tokens), None if negative is None else projected(negative)


def _normed(features_BND: Tensor, norm: Any) -> Tensor:
    return features_BND if norm is None else norm(features_BND)


def _by_head(features_BND: Tensor, attention: Any) -> Tensor:
    return features_BND.unflatten(2, (attention.heads, -1)).transpose(1, 2)  # type: ignore[no-untyped-call, no-any-return]
