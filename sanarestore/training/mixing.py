"""Mix the results of a refiner and its experts in training, image by image, as restoration does.

Shape suffixes: B batch, C channels, H W pixels, K routing features, D prompt features.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sanarestore.degradations.requests import Request
from sanarestore.model.colour_correction import WholePhoto
from sanarestore.model.experts import Experts
from sanarestore.model.refiner import Refiner
from sanarestore.model.routing import routing_features


class Mixture:
    """The refiner of a model and its experts, as frozen copies."""

    def __init__(self, experts: Experts, refiner: Refiner) -> None:
        self._experts = experts
        self._refiner = refiner
        self.refiners = nn.ModuleDict({name: experts.refiner(name, refiner) for name in experts.names})
        """The experts by name."""
        self.refiners.requires_grad_(False)

    def restore(
        self, degraded_BCHW: Tensor, generated_BCHW: Tensor, prompt_BD: Tensor, whole: WholePhoto,
        requests: Sequence[Request],
    ) -> Tensor:  # fmt: skip
        """Restore each image [B,3,H,W] by the shares that the router gives to the refiner and its experts."""
        device = next(self._experts.router.parameters()).device
        restored = []
        for place, request in enumerate(requests):
            one = slice(place, place + 1)
            features_K = routing_features(degraded_BCHW[place]).to(device)
            shares = self._experts.shares(features_K, prompt_BD[place].to(device), request.removes)
            results = [
                share
                * (self.refiners[name] if name else self._refiner)(
                    degraded_BCHW[one], generated_BCHW[one], prompt_BD[one], whole[one]
                )
                for name, share in shares.items()
            ]
            restored.append(torch.stack(results).sum(dim=0))
        return torch.cat(restored)
