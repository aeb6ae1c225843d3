"""Training objectives of the latent path: autoencoder, flow, and end to end.

Shape suffixes: B batch, C channels, H W pixels or latent positions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sanarestore.degradations.recipes import stream
from sanarestore.flow import interpolate, training_times, velocity
from sanarestore.model.loading import LatentPath
from sanarestore.model.transformer import Tokens
from sanarestore.training.data import Batch
from sanarestore.training.losses import off_unit_variance
from sanarestore.training.objective import PartsObjective
from sanarestore.training.parts import Parts
from sanarestore.training.recipe import TrainingRecipe

VARIANCE_WEIGHT = 1.0
"""Weight of `off_unit_variance` in the loss, in dB per unit."""

GENERATED_WEIGHT = 0.3
"""Weight of the generated image's own error in end-to-end training, relative to the restored image's."""


class AutoencoderObjective(PartsObjective):
    """Reconstruction of clean and of degraded images: the transformer's condition is the latent of a degraded one."""

    def __init__(self, parts: Parts, recipe: TrainingRecipe) -> None:
        super().__init__(parts, recipe, parts.reconstructing)

    def loss(self, batch: Batch) -> Tensor:
        # Clean and degraded images alternate, so that a step processes no more images than its batch holds.
        given_BCHW = torch.cat([batch.target_BCHW[::2], batch.degraded_BCHW[1::2]])
        autoencoder = self.parts.path.autoencoder
        latent_BCHW = autoencoder.encode(given_BCHW)
        reconstructed = autoencoder.decode(latent_BCHW)
        return self._pixel_loss(reconstructed, given_BCHW) + VARIANCE_WEIGHT * off_unit_variance(latent_BCHW)

    def restore(self, batch: Batch) -> Tensor:
        """Encode and decode the clean images: the upper bound of what the latent path can achieve."""
        autoencoder = self.parts.path.autoencoder
        return autoencoder.decode(autoencoder.encode(batch.target_BCHW))


class FlowObjective(PartsObjective):
    """Flow matching on latents: trains the transformer and its condition; the prompt encoder stays frozen."""

    def __init__(self, parts: Parts, recipe: TrainingRecipe) -> None:
        super().__init__(parts, recipe, parts.flowing)

    def loss(self, batch: Batch) -> Tensor:
        latent, recipe = self.parts.path, self.recipe
        with torch.no_grad():
            condition_BCHW = latent.autoencoder.encode(batch.degraded_BCHW).repeat(recipe.draws, 1, 1, 1)
            clean_BCHW = latent.autoencoder.encode(batch.target_BCHW).repeat(recipe.draws, 1, 1, 1)
            tokens = self._tokens(batch).repeated(recipe.draws)
        generator = torch.Generator().manual_seed(int(stream(recipe.seed, "flow", batch.number).integers(2**62)))
        noise_BCHW = torch.randn(clean_BCHW.shape, generator=generator).to(clean_BCHW)
        time_B = training_times(len(clean_BCHW), generator, shift=latent.flow.shift, p_one=recipe.p_one)
        time_B = time_B.to(clean_BCHW)
        noised_BCHW = interpolate(clean_BCHW, noise_BCHW, time_B)
        predicted_BCHW = latent.transformer(noised_BCHW, condition_BCHW, tokens, time_B)
        loss: Tensor = (predicted_BCHW - velocity(clean_BCHW, noise_BCHW)).square().mean()
        one_B = time_B == 1
        if not recipe.agreement_weight or not one_B.any():
            return loss
        other_BCHW = drawn_noise(recipe.seed, batch.number, noise_BCHW.shape).to(noise_BCHW)
        again_BCHW = one_step(latent, condition_BCHW[one_B], tokens[one_B], other_BCHW[one_B])
        apart = (noise_BCHW - predicted_BCHW)[one_B] - again_BCHW
        agreed: Tensor = loss + recipe.agreement_weight * apart.square().mean()
        return agreed

    def restore(self, batch: Batch) -> Tensor:
        return generate(self.parts.path, batch, self._tokens(batch), seed=self.recipe.seed)


class EndToEndObjective(PartsObjective):
    """Joint training: the refiner's error also trains decoder, transformer and condition, through one flow step."""

    def __init__(self, parts: Parts, recipe: TrainingRecipe) -> None:
        super().__init__(parts, recipe, {**parts.refining, **parts.flowing, **parts.decoding})

    @property
    def refines_generated(self) -> bool:
        return True

    def loss(self, batch: Batch) -> Tensor:
        latent, recipe, tokens = self.parts.path, self.recipe, self._tokens(batch)
        condition_BCHW = latent.autoencoder.encode(batch.degraded_BCHW)
        seeds = (recipe.seed, recipe.seed + 1) if recipe.agreement_weight else (recipe.seed,)
        drawn = [drawn_noise(seed, batch.number, condition_BCHW.shape).to(condition_BCHW) for seed in seeds]
        clean = [one_step(latent, condition_BCHW, tokens, noise_BCHW) for noise_BCHW in drawn]
        generated_BCHW = latent.autoencoder.decode(clean[0])
        loss = self._pixel_loss(self._refined(batch, generated_BCHW, tokens), batch.target_BCHW)
        # Without a loss of its own, the generated image would only serve the refiner and be useless at fidelity 0.
        loss = loss + GENERATED_WEIGHT * self._pixel_loss(generated_BCHW, batch.target_BCHW)
        return loss + recipe.agreement_weight * (clean[0] - clean[-1]).square().mean()

    def restore(self, batch: Batch) -> Tensor:
        tokens = self._tokens(batch)
        return self._refined(batch, generate(self.parts.path, batch, tokens, seed=self.recipe.seed), tokens)


def generate(latent: LatentPath, batch: Batch, tokens: Tokens, *, seed: int) -> Tensor:
    """Generate images [B,3,H,W] from the degraded ones, in one step from noise; differentiable."""
    condition_BCHW = latent.autoencoder.encode(batch.degraded_BCHW)
    noise_BCHW = drawn_noise(seed, batch.number, condition_BCHW.shape).to(condition_BCHW)
    return latent.autoencoder.decode(one_step(latent, condition_BCHW, tokens, noise_BCHW))


def one_step(latent: LatentPath, condition_BCHW: Tensor, tokens: Tokens, noise_BCHW: Tensor) -> Tensor:
    """Sample latents z = e - v(e, 1), [B,C,H,W], in a single Euler step."""
    one_B = noise_BCHW.new_ones(len(noise_BCHW))
    clean_BCHW: Tensor = noise_BCHW - latent.transformer(noise_BCHW, condition_BCHW, tokens, one_B)
    return clean_BCHW


def drawn_noise(seed: int, number: int, shape: Sequence[int]) -> Tensor:
    """Draw the initial noise of step `number`, on the CPU and independent of earlier draws."""
    generator = torch.Generator().manual_seed(int(stream(seed, "generate", number).integers(2**62)))
    return torch.randn(shape, generator=generator)
