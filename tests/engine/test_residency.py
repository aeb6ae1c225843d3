"""Tests of weights that wait in the host's memory while an image is generated."""

from typing import Any

import pytest
import torch
from torch import Tensor

from sanarestore.engine import generation as engine
from sanarestore.engine.live_bytes import LiveBytes, held_by
from sanarestore.engine.residency import Residency, bytes_by_stage, weights_by_stage
from sanarestore.engine.tiles import Tiles
from sanarestore.errors import OutOfMemory
from sanarestore.model.loading import LatentPath, RestorationModel
from sanarestore.model.streaming import weights_of
from sanarestore.options import OFFLOADS, RestoreOptions
from tests.conftest import photo

CPU = torch.device("cpu")
"""Stand-in for a device to which weights are copied."""


def generated(model: RestorationModel, tiles: Tiles | None = None, **chosen: Any) -> Tensor:
    image = torch.from_numpy(photo(70, 100, 0)).permute(2, 0, 1)
    result = torch.empty_like(image)
    made = engine.new_generation(
        model, RestoreOptions(fidelity=0, **chosen), prompt="Restore this image", tiles=tiles or Tiles(CPU, 64),
        dtype=torch.float32, shared=True,
    )  # fmt: skip
    for _ in made(image, result):
        pass
    return result


@pytest.mark.parametrize("chosen", [{}, {"steps": 3}, {"tiling": "causal", "tile": 64, "overlap": 32}], ids=str)
@pytest.mark.parametrize("offload", OFFLOADS[1:])
def test_offloading_does_not_change_a_bit(model: RestorationModel, offload: str, chosen: dict[str, Any]) -> None:
    assert torch.equal(generated(model, offload=offload, **chosen), generated(model, **chosen))


def test_untiled_processing_is_the_same_up_to_rounding_with_offloaded_blocks(model: RestorationModel) -> None:
    whole = generated(model, Tiles(CPU, whole=True), tiling="off")
    found = generated(model, Tiles(CPU, whole=True), tiling="off", offload="blocks")
    assert torch.allclose(found, whole, atol=1e-5, rtol=0)


def test_every_weight_belongs_to_a_stage(model: RestorationModel) -> None:
    latent = model.latent
    assert latent is not None
    known = {id(each) for weights in weights_by_stage(latent, streamed=False).values() for each in weights}
    assert known == {id(each) for each in weights_of(latent.autoencoder, latent.transformer)}
    sizes = {offload: bytes_by_stage(latent, offload) for offload in OFFLOADS}
    assert sizes["none"]["sample"] == held_by(weights_of(latent.autoencoder, latent.transformer))
    assert sizes["parts"]["sample"] == held_by(weights_of(latent.transformer))
    blocks = held_by(weights_of(latent.transformer.transformer.transformer_blocks))  # type: ignore[arg-type]
    assert sizes["parts"]["sample"] - sizes["blocks"]["sample"] == blocks * 0, "a tiny model has only two blocks"


def test_only_the_weights_of_the_current_stage_are_on_the_device(model: RestorationModel) -> None:
    latent = copied(model)
    expected = bytes_by_stage(latent, "parts")
    residency = Residency(latent, CPU, "parts")
    for stage, size in expected.items():
        with LiveBytes() as live, residency.during(stage):
            assert live.bytes == size
        assert live.bytes == 0


def copied(model: RestorationModel) -> LatentPath:
    import copy

    return copy.deepcopy(model.latent)  # type: ignore[return-value]


def test_a_stage_that_runs_out_of_memory_goes_on_with_more_offloaded(
    model: RestorationModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second stage fails at every tile size until the transformer's blocks are offloaded."""
    expected = generated(model)
    monkeypatch.setattr(Residency, "offload_more", relieved)
    run = engine.exact
    tried: list[str] = []

    def failing(transformer: Any, *given: Any, largest: int, **chosen: Any) -> Any:
        tried.append(f"{largest} {transformer.streamed is not None}")
        if transformer.streamed is None:
            raise torch.OutOfMemoryError("out of memory")
        return run(transformer, *given, largest=largest, **chosen)

    monkeypatch.setattr(engine, "exact", failing)
    assert torch.allclose(generated(model, Tiles(CPU, 128)), expected, atol=1e-5, rtol=0)
    # Tiles of 128 and 64 px, then parts of both, then blocks.
    assert tried == ["16 False", "4 False", "16 False", "4 False", "16 True"]


def relieved(residency: Residency) -> bool:
    """`Residency.offload_more`, for a CPU too."""
    if residency.offload == "blocks":
        return False
    residency._change(OFFLOADS[OFFLOADS.index(residency.offload) + 1])
    residency._place()
    return True


def test_a_cpu_has_nowhere_to_offload_to(model: RestorationModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*given: Any, **chosen: Any) -> Any:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(engine, "exact", failing)
    with pytest.raises(OutOfMemory, match="even with tiles of 64 px"):
        generated(model)
