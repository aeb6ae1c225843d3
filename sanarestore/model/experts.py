"""Experts: the refiner again, learnt for one degradation alone, and a router that says how much of each a photo needs.

A small network that takes away all there is takes away each worse than one that learnt nothing else. An expert has the
refiner's shape and costs a photograph the same time, or twice that where two are mixed; on disk it is what it changes,
in 8 bits.

Shape suffixes: B batch, K evidence, D prompt features, E choices.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sanarestore.errors import UsageError, WeightsError
from sanarestore.model.evidence import EVIDENCE
from sanarestore.model.refiner import Refiner
from sanarestore.model.tensors import load_strictly
from sanarestore.weights import FETCH

SHARED = ("middle", "tone")
"""Parts of the refiner that its experts leave as they are: a fifth of its weights for a fortieth of its arithmetic, and
light and colour, which are not theirs."""

FEATURES = 64
"""Of the router."""

LEAST_SHARE = 1 / 4
"""What a refiner's probability must exceed for its result to count, where there are three at most; less where there are
more, so that one always does."""

SCALE, ROUTER = ".scale", "router."
"""How the files' tensors are named that are no changes."""


class Router(nn.Module):
    """How much the general refiner's and each expert's result count for a photograph, by evidence and prompt."""

    def __init__(self, prompt_width: int, experts: int) -> None:
        super().__init__()
        self.evidence = nn.Linear(EVIDENCE, FEATURES)
        self.prompt = nn.Linear(prompt_width, FEATURES)
        self.mix = nn.Linear(FEATURES, FEATURES)
        self.choice = nn.Linear(FEATURES, 1 + experts)

    def forward(self, evidence_BK: Tensor, prompt_BD: Tensor) -> Tensor:
        """[B,K] and [B,D] -> logits [B,E], of the general refiner first."""
        hidden = F.relu(self.evidence(evidence_BK.float()) + self.prompt(prompt_BD.float()))
        choices: Tensor = self.choice(F.relu(self.mix(hidden)))
        return choices


@dataclass(frozen=True, kw_only=True, slots=True)
class Experts:
    """For one refiner, those that it shares its place with."""

    names: tuple[str, ...]
    """The degradation (a kind of `requests.KINDS`) that each is for."""
    router: Router
    changes: Mapping[str, Mapping[str, Tensor]]
    """Of each, what it adds to the refiner's tensors: in 8 bits, under their names, with the steps of their rows
    beside them."""

    @classmethod
    def of(cls, general: Refiner, experts: Mapping[str, Refiner]) -> "Experts":
        """Experts that were trained from `general`, with a router that knows nothing yet.

        UsageError where one is of another shape, or differs in what experts share.
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
        """As `tensors` gave them; WeightsError if any is missing, left over or of another shape."""
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
        """All of them, for one file."""
        router = {f"{ROUTER}{key}": tensor for key, tensor in self.router.state_dict().items()}
        changes = {f"{name}.{key}": tensor for name, changed in self.changes.items() for key, tensor in changed.items()}
        return {**router, **changes}

    @property
    def parameters(self) -> int:
        """Numbers that they have beside the refiner's, their router's included."""
        changed = [
            tensor for changes in self.changes.values() for key, tensor in changes.items() if not key.endswith(SCALE)
        ]
        return sum(tensor.numel() for tensor in (*changed, *self.router.parameters()))

    @torch.inference_mode()
    def shares(self, evidence_K: Tensor, prompt_D: Tensor) -> dict[str | None, float]:
        """How much the result of each counts for a photograph with this evidence, by name, None for the general
        refiner; they add up to 1, and those that do not count are left out.

        Continuous, so that two crops of one photograph are treated nearly alike; what would count for little counts
        for nothing, so that most photographs take one network.
        """
        share_E = self.router(evidence_K[None], prompt_D[None])[0].softmax(dim=0)
        above_E = (share_E - LEAST_SHARE * min(1, 3 / len(share_E))).clamp(min=0)
        shares = zip((None, *self.names), (above_E / above_E.sum()).tolist(), strict=True)
        return {name: share for name, share in shares if share > 0}

    def refiner(self, name: str, general: Refiner) -> Refiner:
        """One of them, made of the refiner that they are the experts of, which stays as it is."""
        expert = copy.deepcopy(general)
        owned = _owned(expert)
        with torch.no_grad():
            for key, tensor in owned.items():
                change, step = (self.changes[name][key + ending].to(tensor.device) for ending in ("", SCALE))
                tensor.add_((change * step).to(tensor.dtype))
        return expert


def owned_parts(refiner: Refiner) -> dict[str, nn.Module]:
    """What an expert has of its own, by name."""
    return {name: part for name, part in refiner.named_children() if name not in SHARED}


def _owned(refiner: Refiner) -> dict[str, Tensor]:
    """Its tensors, by their names in the refiner."""
    return {key: tensor for key, tensor in refiner.state_dict().items() if key.split(".")[0] not in SHARED}


def _equal_where_shared(one: Refiner, other: Refiner) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return all(torch.equal(tensor, theirs[key]) for key, tensor in mine.items() if key not in _owned(one))


def _changes(expert: Refiner, general: Refiner) -> dict[str, Tensor]:
    """Rounded to 255 steps of each row's largest: finer than float16 would hold the sums."""
    before, found = _owned(general), {}
    for key, tensor in _owned(expert).items():
        change = tensor.float() - before[key].float()
        step = _rows(change)
        found[key] = torch.where(step > 0, change / step, 0).round().to(torch.int8)
        found[key + SCALE] = step
    return found


def _rows(change: Tensor) -> Tensor:
    """The step of each row of the first dimension, shaped to be multiplied by."""
    rest = tuple(range(1, change.ndim))
    largest = change.abs().amax(dim=rest, keepdim=True) if rest else change.abs()
    return largest / 127
