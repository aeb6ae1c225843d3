"""Training objectives of the latent path: autoencoder, flow, and end to end.

Shape suffixes: B batch, C channels, H W pixels or latent positions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from sanarestore.degradations.recipes import stream
from sanarestore.flow import interpolate, training_times, velocity
from sanarestore.model.loading import LatentPath
from sanarestore.model.runners.windowed import causal_velocity
from sanarestore.model.transformer import Tokens
from sanarestore.training.batching import Batch
from sanarestore.training.losses import off_unit_variance
from sanarestore.training.objective import PartsObjective
from sanarestore.training.parts import Parts
from sanarestore.training.recipe import TrainingRecipe

VARIANCE_WEIGHT = 1.0
"""Weight of `off_unit_variance` in the loss, in dB per unit."""

GENERATED_WEIGHT = 0.3
"""Weight of the generated image's own error in end-to-end training, relative to the restored image's."""


OVERLAP = 4
"""Side of a tile of training, divided by the overlap of tiles."""

MOST_STEPS = 50
"""Largest number of sampling steps for which a transformer that has seen all times is meant."""


class AutoencoderObjective(PartsObjective):
    """Reconstruction of clean and of degraded images: the transformer's condition is the latent of a degraded one."""

    def __init__(self, parts: Parts, recipe: TrainingRecipe) -> None:
        super().__init__(parts, recipe, parts.reconstructing)

    def loss(self, batch: Batch) -> Tensor:
        # Clean and degraded images alternate, so that a step processes no more images than its batch holds.
        is_clean_B = torch.tensor([number % 2 == 0 for number in batch.numbers], device=batch.target_BCHW.device)
        given_BCHW = torch.where(is_clean_B[:, None, None, None], batch.target_BCHW, batch.degraded_BCHW)
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

    @property
    def steps_range(self) -> tuple[int, int]:
        # A single step starts at time 1, which only `p_one` visits.
        return (1 if self.recipe.p_one else 2, MOST_STEPS)

    def loss(self, batch: Batch) -> Tensor:
        latent, recipe = self.parts.path, self.recipe
        with torch.no_grad():
            given_BCHW, wanted_BCHW = self.latents(batch)
            condition_BCHW, clean_BCHW = (each.repeat(recipe.draws, 1, 1, 1) for each in (given_BCHW, wanted_BCHW))
            tokens = self._tokens(batch).repeated(recipe.draws)
        noise_BCHW, time_B = (
            drawn.to(clean_BCHW) for drawn in _noise_and_times(batch, recipe, clean_BCHW.shape[1:], latent.flow.shift)
        )
        noised_BCHW = interpolate(clean_BCHW, noise_BCHW, time_B)
        predicted_BCHW = self._predicted(noised_BCHW, condition_BCHW, tokens, time_B)
        loss: Tensor = (predicted_BCHW - velocity(clean_BCHW, noise_BCHW)).square().mean()
        one_B = time_B == 1
        if not recipe.agreement_weight or not one_B.any():
            return loss
        other_BCHW = drawn_noise(recipe.seed, batch.numbers, clean_BCHW.shape[1:]).repeat(recipe.draws, 1, 1, 1)
        other_BCHW = other_BCHW.to(noise_BCHW)
        again_BCHW = other_BCHW[one_B] - self._predicted(
            other_BCHW[one_B], condition_BCHW[one_B], tokens[one_B], time_B[one_B]
        )
        apart = (noise_BCHW - predicted_BCHW)[one_B] - again_BCHW
        agreed: Tensor = loss + recipe.agreement_weight * apart.square().mean()
        return agreed

    def latents(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Latents [B,C,H,W] of the degraded and the target images."""
        if batch.degraded_latent_BCHW is not None and batch.target_latent_BCHW is not None:
            return batch.degraded_latent_BCHW, batch.target_latent_BCHW
        encode = self.parts.path.autoencoder.encode
        return encode(batch.degraded_BCHW), encode(batch.target_BCHW)

    def _predicted(self, noised_BCHW: Tensor, condition_BCHW: Tensor, tokens: Tokens, time_B: Tensor) -> Tensor:
        """Predict velocities [B,C,H,W]; with several tiles, each attends to itself and to earlier ones, as in the
        scheme causal."""
        transformer, side = self.parts.path.transformer, noised_BCHW.shape[2]
        if self.recipe.tiles == 1:
            velocity_BCHW: Tensor = transformer(noised_BCHW, condition_BCHW, tokens, time_B)
            return velocity_BCHW
        overlap = max(1, side // self.recipe.tiles // OVERLAP)
        tile = -(-(side + (self.recipe.tiles - 1) * overlap) // self.recipe.tiles)
        found = [
            causal_velocity(
                transformer, noised_BCHW[one], condition_BCHW[one], tokens[one], time, tile=tile, overlap=overlap
            )
            for one, time in ((slice(place, place + 1), time) for place, time in enumerate(time_B.tolist()))
        ]
        return torch.cat(found)

    def restore(self, batch: Batch) -> Tensor:
        return generate(self.parts.path, batch, self._tokens(batch), seed=self.recipe.seed)


class EndToEndObjective(PartsObjective):
    """Joint training: the refiner's error also trains decoder, transformer and condition, through one flow step."""

    def __init__(self, parts: Parts, recipe: TrainingRecipe) -> None:
        super().__init__(parts, recipe, {**parts.refining, **parts.flowing, **parts.decoding})

    @property
    def refines_generated(self) -> bool:
        return True

    @property
    def steps_range(self) -> tuple[int, int]:
        return (1, 1)

    def loss(self, batch: Batch) -> Tensor:
        latent, recipe, tokens = self.parts.path, self.recipe, self._tokens(batch)
        condition_BCHW = latent.autoencoder.encode(batch.degraded_BCHW)
        seeds = (recipe.seed, recipe.seed + 1) if recipe.agreement_weight else (recipe.seed,)
        drawn = [drawn_noise(seed, batch.numbers, condition_BCHW.shape[1:]).to(condition_BCHW) for seed in seeds]
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
    noise_BCHW = drawn_noise(seed, batch.numbers, condition_BCHW.shape[1:]).to(condition_BCHW)
    return latent.autoencoder.decode(one_step(latent, condition_BCHW, tokens, noise_BCHW))


def one_step(latent: LatentPath, condition_BCHW: Tensor, tokens: Tokens, noise_BCHW: Tensor) -> Tensor:
    """Sample latents z = e - v(e, 1), [B,C,H,W], in a single Euler step."""
    one_B = noise_BCHW.new_ones(len(noise_BCHW))
    clean_BCHW: Tensor = noise_BCHW - latent.transformer(noise_BCHW, condition_BCHW, tokens, one_B)
    return clean_BCHW


def drawn_noise(seed: int, numbers: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Draw the initial noise [B,C,H,W] of samples by their numbers, each of `shape` [C,H,W], on the CPU.

    A sample's noise depends on its number alone, so that parts of a batch see the same noise as the whole.
    """
    return torch.stack([torch.randn(*shape, generator=drawing(seed, "generate", each)) for each in numbers])


def _noise_and_times(batch: Batch, recipe: TrainingRecipe, shape: Sequence[int], shift: float) -> tuple[Tensor, Tensor]:
    """Draw noise [D*B,C,H,W] and times [D*B] for D draws of every sample: all samples' first draws, then the second."""
    noises, times = [], []
    for number in batch.numbers:
        generator = drawing(recipe.seed, "flow", number)
        noises.append(torch.randn(recipe.draws, *shape, generator=generator))
        times.append(training_times(recipe.draws, generator, shift=shift, p_one=recipe.p_one))
    return torch.stack(noises, dim=1).flatten(0, 1), torch.stack(times, dim=1).flatten()


def drawing(seed: int, purpose: str, number: int) -> torch.Generator:
    """A generator on the CPU for the random draws of one sample for one purpose."""
    return torch.Generator().manual_seed(int(stream(seed, purpose, number).integers(2**62)))
