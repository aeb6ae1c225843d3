"""Experts: refiners trained for one degradation each, and a router that weights them for every photograph.

A small generalist is worse at each degradation than a specialist. An expert has the refiner's architecture and takes
the same time, a mix of two twice that. Files store only its weight differences from the refiner, in 8 bits.

Shape suffixes: B batch, K routing features, D prompt features, E refiners (the general one and the experts).
"""

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sanarestore.degradations.requests import KINDS
from sanarestore.errors import UsageError, WeightsError
from sanarestore.model.refiner import Refiner
from sanarestore.model.routing import ROUTING_FEATURES
from sanarestore.model.tensors import load_strictly
from sanarestore.weights import FETCH

SHARED = ("bottleneck", "colour_correction")
"""Parts that experts share with the refiner: the bottleneck (a fifth of the weights for a fortieth of the arithmetic),
and the global colour correction, which is not an expert's task."""

FEATURES = 64
"""Hidden features of the router."""

PHOTOGRAPH = "photograph"
"""Name of the expert for noise as cameras store it."""

REMOVES = {kind: kind for kind in KINDS} | {PHOTOGRAPH: "noise"}
"""Names that experts may have -> the kind of degradation that each removes."""

LEAST_SHARE = 1 / 4
"""Probability that a refiner must exceed for its result to count, with up to three refiners; with E > 3, 3/E of this,
so that at least one always counts."""

SHARPNESS = 1.5
"""Factor of the router's logits: how soon the likelier of two refiners runs alone. On 555 degraded crops of photographs
kept back, 1.35 refiners ran on average instead of 1.51 at a factor of 1, and the gain was lower by 0.01 dB."""

SCALE, ROUTER = ".scale", "router."
"""Ending of the names of row scales, and beginning of the names of the router's tensors, in files."""


class Router(nn.Module):
    """Network that weights the general refiner and each expert, from routing features and prompt."""

    def __init__(self, prompt_width: int, experts: int) -> None:
        super().__init__()
        self.features = nn.Linear(ROUTING_FEATURES, FEATURES)
        self.prompt = nn.Linear(prompt_width, FEATURES)
        self.mix = nn.Linear(FEATURES, FEATURES)
        self.choice = nn.Linear(FEATURES, 1 + experts)

    def forward(self, features_BK: Tensor, prompt_BD: Tensor) -> Tensor:
        """[B,K] and [B,D] -> logits [B,E], the general refiner's first."""
        hidden = F.relu(self.features(features_BK.float()) + self.prompt(prompt_BD.float()))
        choices: Tensor = self.choice(F.relu(self.mix(hidden)))
        return choices


@dataclass(frozen=True, kw_only=True, slots=True)
class Experts:
    """The experts of one general refiner, and their router."""

    names: tuple[str, ...]
    """Name of each expert, one of `REMOVES`."""
    router: Router
    changes: Mapping[str, Mapping[str, Tensor]]
    """Per expert, int8 differences from the refiner's tensors by tensor name, and row scales under name + `SCALE`."""

    @classmethod
    def of(cls, general: Refiner, experts: Mapping[str, Refiner]) -> "Experts":
        """Collect experts that were trained from `general`, with an untrained router.

        UsageError if an expert has another configuration or differs in the shared parts.
        """
        changes = {}
        for name, expert in experts.items():
            if expert.config != general.config or not _equal_where_shared(expert, general):
                raise UsageError(
                    "it was not trained as an expert of this model's refiner", where=name,
                    next_step="Train it from this model, with the objective expert.",
                )  # fmt: skip
            changes[name] = _changes(expert, general)
        return cls(names=tuple(experts), router=Router(general.config.prompt_width, len(experts)), changes=changes)

    @classmethod
    def from_tensors(
        cls, names: tuple[str, ...], general: Refiner, tensors: Mapping[str, Tensor], where: Path
    ) -> "Experts":
        """Rebuild experts from `tensors`; WeightsError for unknown names, or missing, spare or misshapen tensors."""
        if unknown := sorted(set(names) - REMOVES.keys()):
            raise WeightsError(
                f"the expert '{unknown[0]}' is not known to this version", where=where,
                next_step="Install a newer sanarestore.",
            )  # fmt: skip
        router = Router(general.config.prompt_width, len(names))
        given = {key.removeprefix(ROUTER): tensor for key, tensor in tensors.items() if key.startswith(ROUTER)}
        load_strictly(router, given, where)
        expected = {
            f"{name}.{key}{ending}": shape
            for name in names
            for key, tensor in _owned(general).items()
            for ending, shape in (("", tensor.shape), (SCALE, _rows(tensor).shape))
        }
        found = {key: tensor.shape for key, tensor in tensors.items() if not key.startswith(ROUTER)}
        different = sorted(key for key in {*expected, *found} if expected.get(key) != found.get(key))
        if different:
            raise WeightsError(
                f"the experts do not fit the refiner ({different[0]}, {len(different)} in all)",
                where=where, next_step=FETCH,
            )  # fmt: skip
        changes = {
            name: {key.removeprefix(f"{name}."): tensors[key] for key in expected if key.startswith(f"{name}.")}
            for name in names
        }
        return cls(names=names, router=router.eval().requires_grad_(False), changes=changes)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of router and experts, for one file."""
        router = {f"{ROUTER}{key}": tensor for key, tensor in self.router.state_dict().items()}
        changes = {f"{name}.{key}": tensor for name, changed in self.changes.items() for key, tensor in changed.items()}
        return {**router, **changes}

    @property
    def parameters(self) -> int:
        """Number of parameters in addition to the refiner's, including the router and without row scales."""
        changed = [
            tensor for changes in self.changes.values() for key, tensor in changes.items() if not key.endswith(SCALE)
        ]
        return sum(tensor.numel() for tensor in (*changed, *self.router.parameters()))

    @torch.inference_mode()
    def shares(
        self, features_K: Tensor, prompt_D: Tensor, removes: Collection[str] | None = None
    ) -> dict[str | None, float]:
        """Weight each refiner's result for a photograph, by name, None for the general refiner.

        Weights sum to 1; refiners of weight 0 are left out. The weights are continuous, so that two crops of one
        photograph are treated nearly alike. Small weights become 0, so that most photographs take one network.
        """
        logit_E = self.router(features_K[None], prompt_D[None])[0]
        share_E = (SHARPNESS * logit_E).where(self.asked_for(removes), -torch.inf).softmax(dim=0)
        above_E = (share_E - LEAST_SHARE * min(1, 3 / len(share_E))).clamp(min=0)
        shares = zip((None, *self.names), (above_E / above_E.sum()).tolist(), strict=True)
        return {name: share for name, share in shares if share > 0}

    def asked_for(self, removes: Collection[str] | None) -> Tensor:
        """Return whether each refiner may run for a request: booleans [E], the general refiner's first, which always
        may.

        An expert removes its degradation whatever the prompt, so one that was not asked for must not run. `removes` is
        None for a request that names no kind.
        """
        return torch.tensor([True, *(removes is None or REMOVES[name] in removes for name in self.names)])

    def refiner(self, name: str, general: Refiner) -> Refiner:
        """Build one expert from the general refiner, which stays unchanged."""
        expert = copy.deepcopy(general)
        owned = _owned(expert)
        with torch.no_grad():
            for key, tensor in owned.items():
                change, step = (self.changes[name][key + ending].to(tensor.device) for ending in ("", SCALE))
                tensor.add_((change * step).to(tensor.dtype))
        return expert


def owned_parts(refiner: Refiner) -> dict[str, nn.Module]:
    """Parts of a refiner that its experts do not share, by name."""
    return {name: part for name, part in refiner.named_children() if name not in SHARED}


def _owned(refiner: Refiner) -> dict[str, Tensor]:
    """Tensors of a refiner that its experts do not share, by name."""
    return {key: tensor for key, tensor in refiner.state_dict().items() if key.split(".")[0] not in SHARED}


def _equal_where_shared(one: Refiner, other: Refiner) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return all(torch.equal(tensor, theirs[key]) for key, tensor in mine.items() if key not in _owned(one))


def _changes(expert: Refiner, general: Refiner) -> dict[str, Tensor]:
    """Quantize an expert's differences to 255 levels per row, which is finer than the sums would be in float16."""
    before, found = _owned(general), {}
    for key, tensor in _owned(expert).items():
        change = tensor.float() - before[key].float()
        step = _rows(change)
        found[key] = torch.where(step > 0, change / step, 0).round().to(torch.int8)
        found[key + SCALE] = step
    return found


def _rows(change: Tensor) -> Tensor:
    """Scale of each row of the first dimension, shaped for broadcasting."""
    rest = tuple(range(1, change.ndim))
    largest = change.abs().amax(dim=rest, keepdim=True) if rest else change.abs()
    return largest / 127
