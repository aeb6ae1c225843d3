"""Models of SANA's published sizes with random weights, to measure speed and memory, which no weight value changes.

Configurations are those of the checkpoints' `config.json` (Efficient-Large-Model on the hub).
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sanarestore.degradations.requests import DEFAULT_PROMPT
from sanarestore.errors import UsageError
from sanarestore.flow import Flow, Solver
from sanarestore.model.autoencoder import Autoencoder
from sanarestore.model.condition import ConditionKind, new_condition
from sanarestore.model.loading import LatentPath, RestorationModel
from sanarestore.model.prompts import PromptEncoder, Prompts
from sanarestore.model.reading import load_embedded_reader
from sanarestore.model.refiner import Refiner
from sanarestore.model.refiner_config import RefinerConfig
from sanarestore.model.transformer import ConditionedTransformer

RANDOM = "random:"
"""Prefix of the names of models that are built with random weights."""

PROMPT = DEFAULT_PROMPT
"""The only prompt that a random model knows; its embedding has one token per character."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A published transformer, as changes to the defaults of diffusers, which are those of the 1.6B model."""

    changes: dict[str, Any]
    parameters: int
    shift: float = 3.0
    solver: Solver = "dpm"


_SMALL = {
    "num_attention_heads": 36, "num_layers": 28, "num_cross_attention_heads": 16, "cross_attention_head_dim": 72,
    "cross_attention_dim": 1152,
}  # fmt: skip
_NORMED = {"qk_norm": "rms_norm_across_heads"}
_SPRINT = {**_NORMED, "guidance_embeds": True}

CHECKPOINTS: dict[str, Checkpoint] = {
    "Sana_600M_512px": Checkpoint(changes={**_SMALL, "sample_size": 16}, parameters=591_747_872),
    "Sana_600M_1024px": Checkpoint(changes=_SMALL, parameters=591_747_872),
    "Sana_1600M_1024px": Checkpoint(changes={}, parameters=1_604_462_752),
    "Sana_1600M_2Kpx": Checkpoint(changes={"sample_size": 64, "interpolation_scale": 1.0}, parameters=1_604_462_752),
    "Sana_1600M_4Kpx": Checkpoint(
        changes={"sample_size": 128, "interpolation_scale": 2.0}, parameters=1_604_462_752, shift=6.0
    ),
    "SANA1.5_1.6B_1024px": Checkpoint(changes=_NORMED, parameters=1_604_641_952),
    "SANA1.5_4.8B_1024px": Checkpoint(changes={**_NORMED, "num_layers": 60}, parameters=4_721_825_952),
    "Sana_Sprint_0.6B_1024px": Checkpoint(changes={**_SMALL, **_SPRINT}, parameters=593_501_216, solver="consistency"),
    "Sana_Sprint_1.6B_1024px": Checkpoint(changes=_SPRINT, parameters=1_610_237_472, solver="consistency"),
}

DC_AE: dict[str, Any] = {
    "latent_channels": 32, "attention_head_dim": 32,
    "encoder_block_types": ["ResBlock"] * 3 + ["EfficientViTBlock"] * 3,
    "decoder_block_types": ["ResBlock"] * 3 + ["EfficientViTBlock"] * 3,
    "encoder_block_out_channels": [128, 256, 512, 512, 1024, 1024],
    "decoder_block_out_channels": [128, 256, 512, 512, 1024, 1024],
    "encoder_layers_per_block": [2, 2, 2, 3, 3, 3], "decoder_layers_per_block": [3, 3, 3, 3, 3, 3],
    "encoder_qkv_multiscales": [[], [], [], [5], [5], [5]], "decoder_qkv_multiscales": [[], [], [], [5], [5], [5]],
    "upsample_block_type": "interpolate", "downsample_block_type": "conv", "scaling_factor": 0.41407,
}  # fmt: skip
"""Configuration of the autoencoder that all checkpoints share, f32c32."""


def random_model(
    name: str, *, condition: ConditionKind = "projection", dtype: torch.dtype = torch.float32, seed: int = 0
) -> RestorationModel:
    """Build a restoration model of a published size on the CPU, with random weights, condition included.

    UsageError for a name that is not in `CHECKPOINTS`.
    """
    from diffusers import AutoencoderDC, SanaTransformer2DModel

    known = CHECKPOINTS.get(name.removeprefix(RANDOM))
    if known is None:
        raise UsageError(
            f"'{name}' is not a published size", where="--model", next_step=f"Known: {', '.join(CHECKPOINTS)}."
        )
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        make: Any = SanaTransformer2DModel
        transformer = make(**known.changes)
        make = AutoencoderDC
        dc = make(**DC_AE)
    # nn.Module's method, because that of diffusers warns of layers that no SANA transformer has.
    transformer = _filled(nn.Module.to(transformer, dtype), generator).eval()
    autoencoder = Autoencoder(_filled(dc, generator)).eval().requires_grad_(False)
    adapter = _filled(new_condition(condition, transformer), generator)
    conditioned = ConditionedTransformer(transformer, adapter.to(dtype)).eval().requires_grad_(False)
    width = int(transformer.config.caption_channels)
    path = LatentPath(
        autoencoder=autoencoder, transformer=conditioned, flow=Flow(shift=known.shift, solver=known.solver)
    )
    torch.manual_seed(seed)
    return RestorationModel(
        name=name, folder=Path(name), refiner=Refiner(RefinerConfig(prompt_width=width)).eval().requires_grad_(False),
        prompts=Prompts(
            {PROMPT: torch.randn(len(PROMPT), width, generator=generator)}, _no_encoder, load_embedded_reader,
            as_typed=True,
        ),
        defaults={"prompt": PROMPT, "steps": 1}, fingerprint=f"{name}:{seed}", load_latent=lambda: path,
    )  # fmt: skip


def _filled(module: Any, generator: torch.Generator) -> Any:
    """Fill weights so that activations keep their scale: gains 1, biases 0, all others of variance 1 / fan-in."""
    module = module.to_empty(device="cpu")
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim < 2:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
            else:
                parameter.normal_(0, 1 / math.sqrt(parameter[0].numel()), generator=generator)
        for buffer in module.buffers():
            buffer.zero_()
    return module


def _no_encoder() -> PromptEncoder:
    raise UsageError(f"a random model knows one prompt, '{PROMPT}'", where="--prompt", next_step="Leave it out.")
