"""Objectives by their shapes alone: what a training would hold, without reading or allocating the weights.

Shape suffixes: B batch, L tokens, D prompt features.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from sanarestore import weights
from sanarestore.degradations.requests import Request
from sanarestore.model import adapter as adapters
from sanarestore.model.adapter import read_adapter
from sanarestore.model.autoencoder import Autoencoder
from sanarestore.model.base import Base, autoencoder_in, read_flow, read_json
from sanarestore.model.depth import append_blocks, depth_of, remove_blocks
from sanarestore.model.prompts import Prompts
from sanarestore.model.reading import load_embedded_reader
from sanarestore.model.refiner import Refiner
from sanarestore.model.transformer import Tokens
from sanarestore.training.decoder_objective import decoder_objective
from sanarestore.training.depth import at_depth
from sanarestore.training.objective import Objective, PartsObjective
from sanarestore.training.objectives import new_objective
from sanarestore.training.parts import Parts
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.recipe_shapes import DECODER
from sanarestore.training.starting import Start


class AnyPrompts(nn.Module):
    """Stands for `FrozenPrompts` where only the shapes of embeddings matter: every prompt has the same length."""

    def __init__(self, width: int, length: int) -> None:
        super().__init__()
        self.width, self.length = width, length

    def requests(self, prompts: Sequence[str], known: Sequence[Request | None]) -> list[Request]:
        """Return the request of each prompt: the known one, or an empty one."""
        return [request or Request() for request in known]

    def forward(self, prompts: Sequence[str], requests: Sequence[Request]) -> Tokens:
        """Embeddings of the right shape."""
        return Tokens.of([torch.zeros(self.length, self.width) for _ in prompts])


def shaped_objective(recipe: TrainingRecipe, start: Start, mode: FakeTensorMode, length: int) -> Objective:
    """The objective of a recipe with fake tensors of `mode` for all weights; prompts have `length` tokens.

    Published bases are built from their configurations, in no time; restoration models, which are small, are loaded.
    Raises what `new_objective` does.
    """
    if recipe.objective == DECODER:
        with torch.device("meta"):
            return without_values(at_depth(decoder_objective(recipe, start, _autoencoder), recipe), mode, length)
    if not is_by_shapes(start):
        return without_values(at_depth(new_objective(recipe, start), recipe), mode, length)
    shapes = Shapes(base=start.base, rank=start.rank, dtype=start.dtype, autoencoder=start.autoencoder)
    with torch.device("meta"):
        return without_values(at_depth(new_objective(recipe, shapes), recipe), mode, length)


def without_values(objective: Any, mode: FakeTensorMode, length: int) -> Objective:
    """A copy of an objective with fake tensors of `mode` for all weights; prompts have `length` tokens."""
    known: dict[int, Any] = {}
    if isinstance(objective, PartsObjective):
        parts = objective.parts
        # The text encoder and its tokenizer are not copied: a training step does not use them.
        known = {id(parts.prompts): AnyPrompts(parts.prompts.width, length), id(parts.encoder): parts.encoder}
    for module in filter(lambda held: isinstance(held, nn.Module), vars(objective).values()):
        for tensor in (*module.parameters(), *module.buffers()):
            known[id(tensor)] = _fake(tensor, mode)
    copied: Objective = copy.deepcopy(objective, known)
    return copied


def is_by_shapes(start: Start) -> bool:
    """Return whether a training begins from a published base or an adapter of one, which are not loaded to be
    measured."""
    if start.base is None:
        return False
    folder = weights.resolve(start.base)
    if weights.is_adapter(folder):
        folder = weights.resolve(str(weights.read_adapter_index(folder)["base"]))
    return not weights.is_model(folder)


def _fake(tensor: Tensor, mode: FakeTensorMode) -> Tensor:
    with mode:
        made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
        is_parameter = isinstance(tensor, nn.Parameter)
        return nn.Parameter(made, requires_grad=tensor.requires_grad) if is_parameter else made


@dataclass(frozen=True, kw_only=True, slots=True)
class Shapes(Start):
    """Begins a training of a published base, or of an adapter of one, on the meta device, without its weights."""

    def parts(self, recipe: TrainingRecipe) -> Parts:
        """Build the parts that `Start.parts` loads."""
        assert self.base is not None
        if not weights.is_adapter(weights.resolve(self.base)):
            return Start.parts(self, recipe)
        with torch.device("cpu"):
            found = read_adapter(self.base)
            is_low_rank = found.change == "lora" and not recipe.changes_depth
            rank = adapters.rank_of(found.folder / adapters.LORA) if is_low_rank else None
        if found.condition:
            recipe = replace(recipe, latent=replace(recipe.latent, condition=found.condition))
        # The low-rank weights belong to the transformer, whatever this run trains.
        recipe = replace(recipe, objective="flow") if rank else recipe
        autoencoder = self.autoencoder or found.autoencoder
        parts = Start.parts(replace(self, base=found.base, rank=rank, autoencoder=autoencoder), recipe)
        if found.change == "full":
            _follow(found.folder / adapters.TRANSFORMER, parts.path.transformer.transformer)
        refiner = Refiner(found.refiner) if found.refiner else parts.refiner
        return replace(parts, refiner=refiner, is_adapted=True)

    def _read(self, name: str, dtype: torch.dtype) -> Base:
        from diffusers import SanaTransformer2DModel

        folder, build = weights.resolve(name), SanaTransformer2DModel  # type: tuple[Path, Any]
        config = read_json(folder / "transformer/config.json")
        transformer = build.from_config(config).eval().requires_grad_(False)
        return Base(
            name=name, folder=folder, transformer=nn.Module.to(transformer, dtype),
            autoencoder=_autoencoder(autoencoder_in(folder, self.autoencoder)),
            flow=read_flow(folder), prompts=Prompts({}, _no_encoder, load_embedded_reader, as_typed=True),
        )  # fmt: skip


def _autoencoder(folder: Path) -> Autoencoder:
    """An autoencoder of the shape that a folder configures."""
    from diffusers import AutoencoderDC

    build: Any = AutoencoderDC
    return Autoencoder(build.from_config(read_json(folder / "config.json"))).eval().requires_grad_(False)


def _follow(folder: Path, transformer: Any) -> None:
    """Change the shapes of a base's transformer to the number of blocks of the one in an adapter's folder."""
    wanted, depth = int(read_json(folder / "config.json")["num_layers"]), depth_of(transformer)
    if wanted < depth:
        remove_blocks(transformer, range(wanted, depth))
    elif wanted > depth:
        append_blocks(transformer, wanted - depth)


def _no_encoder() -> Any:
    raise AssertionError("prompts of shapes are not embedded")
