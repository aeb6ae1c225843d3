"""A new latent path: the published classes with small configurations and closed-form initial weights."""

from typing import Any

from sanarestore.flow import Flow
from sanarestore.model.autoencoder import Autoencoder
from sanarestore.model.condition import new_condition
from sanarestore.model.loading import LatentPath
from sanarestore.model.transformer import ConditionedTransformer
from sanarestore.training.linear_filter import begin_as_linear_filter, has_room
from sanarestore.training.recipe_shapes import LatentShape
from sanarestore.training.transform_code import begin_as_transform_code

FLOW_SHIFT = 3.0
"""Default time shift of the flow, that of SANA's checkpoints; a recipe can set another."""

ATTENDING = 3
"""Number of stages with attention, the deepest ones of the autoencoder, as in the published models."""


def new_latent_path(shape: LatentShape, *, prompt_width: int, shift: float = FLOW_SHIFT) -> LatentPath:
    """Build a latent path with a downsampling factor of 32."""
    return LatentPath(
        autoencoder=new_autoencoder(shape),
        transformer=new_transformer(shape, prompt_width=prompt_width),
        flow=Flow(shift=shift, solver="dpm"),
    )


def new_autoencoder(shape: LatentShape) -> Autoencoder:
    """Build the published class with a small configuration, initialised as a transform code."""
    from diffusers import AutoencoderDC

    stages = len(shape.channels)
    kinds = ["ResBlock"] * (stages - ATTENDING) + ["EfficientViTBlock"] * ATTENDING
    scales: list[list[int]] = [[] if kind == "ResBlock" else [5] for kind in kinds]
    make_autoencoder: Any = AutoencoderDC
    autoencoder = make_autoencoder(
        latent_channels=shape.latent_channels, attention_head_dim=shape.head_width,
        encoder_block_types=kinds, decoder_block_types=kinds,
        encoder_block_out_channels=list(shape.channels), decoder_block_out_channels=list(shape.channels),
        encoder_layers_per_block=list(shape.blocks), decoder_layers_per_block=list(shape.blocks),
        encoder_qkv_multiscales=scales, decoder_qkv_multiscales=scales,
        # Latents start with unit variance, and the loss keeps it.
        scaling_factor=1.0, downsample_block_type="Conv",
    )  # fmt: skip
    begin_as_transform_code(autoencoder)
    return Autoencoder(autoencoder)


def new_transformer(shape: LatentShape, *, prompt_width: int) -> ConditionedTransformer:
    """Build the published class, small, initialised as a linear filter if it `has_room` and at random otherwise."""
    from diffusers import SanaTransformer2DModel

    make_transformer: Any = SanaTransformer2DModel
    transformer = make_transformer(
        in_channels=shape.latent_channels, out_channels=shape.latent_channels, num_attention_heads=shape.heads,
        attention_head_dim=shape.head_width, num_cross_attention_heads=shape.heads,
        cross_attention_head_dim=shape.head_width, cross_attention_dim=shape.heads * shape.head_width,
        num_layers=shape.layers, caption_channels=prompt_width, sample_size=32, patch_size=1,
        interpolation_scale=None, qk_norm="rms_norm_across_heads",
    )  # fmt: skip
    model = ConditionedTransformer(transformer, new_condition(shape.condition, transformer))
    if has_room(model):
        begin_as_linear_filter(model)
    return model
