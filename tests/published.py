"""Tiny random models of the published classes, as diffusers makes and writes them."""

from typing import Any

import torch

CHANNELS = 8
"""Of latents."""

WIDTH = 16
"""Of prompt embeddings."""


def tiny_transformer(*, seed: int = 0, **changes: Any) -> Any:
    """A `SanaTransformer2DModel` of two small blocks; `changes` go into its configuration."""
    from diffusers import SanaTransformer2DModel

    torch.manual_seed(seed)
    config = {
        "in_channels": CHANNELS, "out_channels": CHANNELS, "num_attention_heads": 2, "attention_head_dim": 8,
        "num_layers": 2, "num_cross_attention_heads": 2, "cross_attention_head_dim": 8, "cross_attention_dim": 16,
        "caption_channels": WIDTH, "sample_size": 8, "patch_size": 1, "interpolation_scale": None,
    }  # fmt: skip
    return SanaTransformer2DModel(**{**config, **changes}).eval()


SPRINT = {"guidance_embeds": True, "qk_norm": "rms_norm_across_heads"}
"""What makes a transformer one of Sprint's."""


def tiny_autoencoder(*, seed: int = 0, **changes: Any) -> Any:
    """An `AutoencoderDC` of the published topology (three convolutional stages, three that attend), narrow."""
    from diffusers import AutoencoderDC

    torch.manual_seed(seed)
    stages = ["ResBlock"] * 3 + ["EfficientViTBlock"] * 3
    scales = [[], [], [], [5], [5], [5]]
    config = {
        "in_channels": 3, "latent_channels": CHANNELS, "attention_head_dim": 4,
        "encoder_block_types": stages, "decoder_block_types": stages,
        "encoder_block_out_channels": [8] * 6, "decoder_block_out_channels": [8] * 6,
        "encoder_layers_per_block": [2, 2, 2, 1, 1, 1], "decoder_layers_per_block": [3, 3, 3, 1, 1, 1],
        "encoder_qkv_multiscales": scales, "decoder_qkv_multiscales": scales,
        "upsample_block_type": "interpolate", "downsample_block_type": "conv", "scaling_factor": 0.41407,
    }  # fmt: skip
    return AutoencoderDC(**{**config, **changes}).eval()
