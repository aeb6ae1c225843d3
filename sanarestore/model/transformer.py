"""SANA transformer with a condition: predicts the velocity of the latent for a degraded photograph.

Shape suffixes: B batch, C latent channels, H W latent positions, L prompt tokens, D prompt features.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sanarestore.model.blocks import recomputed
from sanarestore.model.condition import PatchEmbedCondition, ProjectionCondition
from sanarestore.model.streaming import Streamed

TIMESTEPS = 1000
"""Largest timestep: SANA's transformers take times from 0 to this, those with a guidance embedding (Sprint) 0 to 1."""

SPRINT_GUIDANCE = 4.5
"""Guidance scale that Sprint was distilled for, and the default of diffusers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """Prompt embeddings as a transformer takes them, one row per image."""

    token_BLD: Tensor
    mask_BL: Tensor
    """1 where there is a token, 0 where there is padding."""

    @classmethod
    def of(cls, rows: list[Tensor]) -> "Tokens":
        """Stack embeddings [L,D] of different lengths, padded on the right."""
        mask_BL = nn.utils.rnn.pad_sequence([row.new_ones(len(row)) for row in rows], batch_first=True)
        return cls(token_BLD=nn.utils.rnn.pad_sequence(rows, batch_first=True), mask_BL=mask_BL)

    def __getitem__(self, chosen_B: Tensor | slice) -> "Tokens":
        """Select the rows of some images."""
        return Tokens(token_BLD=self.token_BLD[chosen_B], mask_BL=self.mask_BL[chosen_B])

    def repeated(self, count: int) -> "Tokens":
        """Repeat all rows `count` times, one copy after another."""
        return Tokens(token_BLD=self.token_BLD.repeat(count, 1, 1), mask_BL=self.mask_BL.repeat(count, 1))


class ConditionedTransformer(nn.Module):
    """diffusers' `SanaTransformer2DModel` and a condition of either kind."""

    def __init__(self, transformer: nn.Module, condition: ProjectionCondition | PatchEmbedCondition) -> None:
        super().__init__()
        self.transformer = transformer
        self.condition = condition
        self.streamed: Streamed | None = None
        """The blocks, if they wait in the host's memory; `forward` cannot be called then. None otherwise."""

    @property
    def config(self) -> Any:
        """The transformer's own configuration."""
        return self.transformer.config

    @property
    def dtype(self) -> torch.dtype:
        """Type of the blocks' arithmetic."""
        return next(self.transformer.parameters()).dtype

    @property
    def blocks(self) -> Iterable[nn.Module]:
        """The transformer's blocks, in order; each can run until the next is taken."""
        return self.streamed or self.transformer.transformer_blocks  # type: ignore[return-value]

    def checkpoint_gradients(self) -> None:
        """Compute each block again in the backward pass, so that training keeps only the blocks' inputs."""
        transformer: Any = self.transformer
        transformer.enable_gradient_checkpointing(recomputed)

    def forward(self, latent_BCHW: Tensor, condition_BCHW: Tensor, tokens: Tokens, time_B: Tensor) -> Tensor:
        """Velocity at `time_B` in [0, 1], [B,C,H,W] in float32; H and W are multiples of the patch size (1)."""
        dtype = self.dtype
        given = self.condition(latent_BCHW.to(dtype), condition_BCHW.to(dtype))
        timestep_B, guidance_B = self.timing(time_B)
        predicted: Tensor = self.transformer(
            given,
            encoder_hidden_states=tokens.token_BLD.to(dtype),
            encoder_attention_mask=tokens.mask_BL,
            timestep=timestep_B,
            guidance=guidance_B,
            return_dict=False,
        )[0]
        return predicted.float()

    def timing(self, time_B: Tensor) -> tuple[Tensor, Tensor | None]:
        """Timesteps [B] for times in [0, 1], and the guidance [B] for Sprint, None for the others."""
        if not self.config.guidance_embeds:
            return time_B * TIMESTEPS, None
        return time_B, torch.full_like(time_B, SPRINT_GUIDANCE * self.config.guidance_embeds_scale, dtype=self.dtype)
