"""Tiny random models of the published classes, made and written by diffusers."""

import json
from pathlib import Path
from typing import Any

import torch

from sanarestore.flow import Flow
from sanarestore.model.adapter import write_adapter
from sanarestore.model.autoencoder import Autoencoder
from sanarestore.model.base import CLASSES
from sanarestore.model.condition import ConditionKind, new_condition
from sanarestore.model.loading import LatentPath
from sanarestore.model.prompts import PromptEncoder
from sanarestore.model.transformer import ConditionedTransformer
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.recipe_shapes import LatentShape, ModelShape
from tests.conftest import random_refiner

CHANNELS = 8
"""Latent channels."""

WIDTH = 16
"""Features of prompt embeddings."""


TINY_RECIPE = TrainingRecipe(
    name="tiny", seed=3, patch=64, loss_floor=1e-4, teacher=False,
    model=ModelShape(
        widths=(8, 8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1), prompt_width=8, prompt_layers=1,
        prompt_heads=2, vocabulary=300, colour_correction=4,
    ),
    latent=LatentShape(
        channels=(8, 8, 8, 8, 8, 8), blocks=(0, 1, 1, 1, 1, 1), latent_channels=8, head_width=4, heads=2, layers=1
    ),
)  # fmt: skip
"""The smallest possible recipe that has all parts."""


def tiny_transformer(*, seed: int = 0, **changes: Any) -> Any:
    """Make a `SanaTransformer2DModel` of two small blocks; `changes` go into its configuration."""
    from diffusers import SanaTransformer2DModel

    torch.manual_seed(seed)
    config = {
        "in_channels": CHANNELS, "out_channels": CHANNELS, "num_attention_heads": 2, "attention_head_dim": 8,
        "num_layers": 2, "num_cross_attention_heads": 2, "cross_attention_head_dim": 8, "cross_attention_dim": 16,
        "caption_channels": WIDTH, "sample_size": 8, "patch_size": 1, "interpolation_scale": None,
    }  # fmt: skip
    return SanaTransformer2DModel(**{**config, **changes}).eval()


SPRINT = {"guidance_embeds": True, "qk_norm": "rms_norm_across_heads"}
"""Configuration that turns a transformer into a Sprint model."""


def tiny_autoencoder(*, seed: int = 0, **changes: Any) -> Any:
    """Make a narrow `AutoencoderDC` of the published topology: three stages of convolution, three of attention."""
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


def latent_path(*, prompt_width: int, kind: ConditionKind = "projection", **changes: Any) -> LatentPath:
    """Make a tiny latent path of random parts; a fresh condition would ignore the photo, so it is random too.

    `changes` go into the configuration of the transformer; with `SPRINT`, the path uses the Sprint sampler.
    """
    transformer = tiny_transformer(caption_channels=prompt_width, **changes)
    condition = new_condition(kind, transformer)
    with torch.no_grad():
        for parameter in condition.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    conditioned = ConditionedTransformer(transformer, condition).eval().requires_grad_(False)
    autoencoder = Autoencoder(tiny_autoencoder()).eval().requires_grad_(False)
    flow = Flow(shift=1.0, solver="consistency") if transformer.config.guidance_embeds else Flow(shift=3.0)
    return LatentPath(autoencoder=autoencoder, transformer=conditioned, flow=flow)


def write_published(folder: Path, encoder: PromptEncoder, *, sprint: bool = False, **saving: Any) -> Path:
    """Write a base in the published layout; `saving` goes to the `save_pretrained` of the transformer."""
    from diffusers import DPMSolverMultistepScheduler, SCMScheduler

    changes = SPRINT if sprint else {}
    tiny_transformer(caption_channels=encoder.width, **changes).save_pretrained(folder / "transformer", **saving)
    tiny_autoencoder().save_pretrained(folder / "vae")
    encoder.tokenizer.save_pretrained(folder / "tokenizer")
    encoder.model.save_pretrained(folder / "text_encoder")
    scheduler: Any = SCMScheduler() if sprint else DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )  # fmt: skip
    scheduler.save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "SanaSprintPipeline" if sprint else "SanaPipeline",
        "scheduler": ["diffusers", type(scheduler).__name__],
        "text_encoder": ["transformers", "Gemma2Model"], "tokenizer": ["transformers", "GemmaTokenizerFast"],
        "transformer": ["diffusers", "SanaTransformer2DModel"], "vae": ["diffusers", "AutoencoderDC"],
    }  # fmt: skip
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: some-weights-licence\n---\n# tiny\n")
    return folder


def write_narrow(folder: Path, *, width: int = 128) -> str:
    """Write a base in the published layout that is wide enough to measure its memory; it has no text encoder."""
    heads, channels = width // 16, (16, 32, 64, 64, 128, 128)
    transformer = tiny_transformer(
        num_attention_heads=heads, attention_head_dim=16, num_layers=4, num_cross_attention_heads=heads,
        cross_attention_head_dim=16, cross_attention_dim=width,
    )  # fmt: skip
    autoencoder = tiny_autoencoder(encoder_block_out_channels=channels, decoder_block_out_channels=channels)
    transformer.save_pretrained(folder / "transformer")
    autoencoder.save_pretrained(folder / "vae")
    return write_configurations(folder)


def write_configurations(folder: Path, **configs: dict[str, Any]) -> str:
    """Write what a base has beside its weights: the index, the scheduler, and configurations of other parts."""
    scheduler = {"_class_name": "DPMSolverMultistepScheduler", "flow_shift": 3.0}
    for name, config in {"scheduler": scheduler, **configs}.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        file = "scheduler_config.json" if name == "scheduler" else "config.json"
        (folder / name / file).write_text(json.dumps(config))
    (folder / "model_index.json").write_text(json.dumps({part: ["diffusers", name] for part, name in CLASSES.items()}))
    return str(folder)


def write_adapted(folder: Path, encoder: PromptEncoder, *, sprint: bool = False) -> None:
    """Write a base in the published layout to base/, and an adapter that turns it into a restorer to adapter/."""
    base = write_published(folder / "base", encoder, sprint=sprint)
    write_adapter(
        folder / "adapter", base=str(base), condition=latent_path(prompt_width=encoder.width).transformer.condition,
        refiner=random_refiner(), prompts=encoder.table(["remove noise"]),
        defaults={"prompt": "remove noise", "steps": 2}, training={},
    )  # fmt: skip
