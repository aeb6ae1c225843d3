"""Tests of the choice of tile, offload and precision for a device's memory."""

from typing import Any

import pytest
import torch

from sanarestore.engine import placement as engine
from sanarestore.engine.footprint import Footprint
from sanarestore.engine.placement import RESERVE, Placement, placement
from sanarestore.engine.restorer import Restorer
from sanarestore.errors import UsageError
from sanarestore.model.loading import RestorationModel
from sanarestore.options import RestoreOptions

CUDA, CPU = torch.device("cuda"), torch.device("cpu")

GB = 10**9


def pretended(tile: int, precision: str | None) -> Footprint:
    """A model of 4 GB, with a stage of 3 GB and two blocks of 0.5 GB; activations are proportional to the tile's
    area."""
    smaller = {None: 1.0, "int8": 0.5, "int4": 0.25}[precision]
    area = GB * (tile / 1024) ** 2
    weights: Any = {
        "none": {"sample": round(4 * GB * smaller)}, "parts": {"sample": round(3 * GB * smaller)},
        "blocks": {"sample": round(0.5 * GB * smaller)},
    }  # fmt: skip
    return Footprint(activations={"sample": round(area)}, weights=weights, refinement=round(area / 2))


@pytest.fixture(autouse=True)
def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        engine, "footprint", lambda model, options, wording, *, tile, **_: pretended(tile, options.quantize)
    )


def chosen(model: RestorationModel, memory: float | None, device: torch.device = CUDA, **options: Any) -> Placement:
    given = None if memory is None else round(memory * (1.1 * GB if device is CUDA else 1.4 * GB))
    given = None if given is None else given + (RESERVE if device is CUDA else 0)
    return placement(
        model, RestoreOptions(device_memory=given, **options), "", device=device, dtype=torch.bfloat16,
        is_generated=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("memory", "tile", "offload", "quantize"),
    [
        (20.1, 4096, "none", None),
        (8.1, 2048, "none", None),
        (5.1, 1024, "none", None),
        (4.1, 1024, "parts", None),
        (1.6, 1024, "blocks", None),
        (1.0, 512, "blocks", None),
        (0.6, 256, "blocks", None),
        (0.4, 256, "blocks", "int8"),
        (0.2, 256, "blocks", "int4"),
    ],
)
def test_the_first_that_fits_is_chosen(
    model: RestorationModel, memory: float, tile: int, offload: str, quantize: str | None
) -> None:
    found = chosen(model, memory)
    assert (found.tile, found.offload, found.quantize) == (tile, offload, quantize)
    assert found.note is not None
    assert f"tiles of {tile} px" in found.note
    assert ("host's memory" in found.note) == (offload != "none")
    assert ("in int" in found.note) == (quantize is not None)


def test_what_does_not_fit_is_refused_with_what_is_needed(model: RestorationModel) -> None:
    with pytest.raises(UsageError, match=r"915 MB are not enough; at least \d+ MB are needed"):
        chosen(model, 0.1)


def test_without_a_limit_the_options_stay(model: RestorationModel) -> None:
    assert chosen(model, None) == Placement(tile=None, offload="none", quantize=None)
    given = chosen(model, None, tile=300, offload="parts", quantize="int8")
    assert given == Placement(tile=300, offload="parts", quantize="int8")


def test_what_the_user_chose_stays(model: RestorationModel) -> None:
    assert chosen(model, 3.6, tile=512).tile == 512
    assert chosen(model, 5.1, offload="blocks").offload == "blocks"
    found = chosen(model, 2.6, quantize="int8")
    assert (found.offload, found.quantize) == ("parts", "int8")
    assert "int8" not in str(found.note)


def test_the_windows_of_a_blending_scheme_stay(model: RestorationModel) -> None:
    options = RestoreOptions(tiling="causal")
    found = chosen(model, 1.0, tiling="causal")
    assert (found.tile, found.offload) == (512, "blocks"), "the autoencoder's tiles are chosen"
    assert found.applied(options).blended == options.blended


def test_a_cpu_offloads_nothing(model: RestorationModel) -> None:
    found = chosen(model, 4.3, CPU)
    assert (found.tile, found.offload, found.quantize) == (512, "none", None)
    with pytest.raises(UsageError, match="a CPU computes in the host's memory"):
        chosen(model, None, CPU, offload="parts")


def test_the_restorer_uses_and_says_what_was_chosen(model: RestorationModel) -> None:
    options = RestoreOptions(device_memory=round(1.3 * 1.4 * GB), fidelity=0.5)
    restorer = Restorer(options, device="cpu", model=model)
    assert restorer.tile == 512
    assert "weights are in int4" in str(restorer.prompt_note)
