"""Parts are timed in turn, beside diffusers' own modules that do the same."""

from pathlib import Path

import pytest
import torch

from sanarestore import tiling
from sanarestore.errors import UsageError
from sanarestore.evaluation import speed
from sanarestore.evaluation.kernel_speed import kernel_arms
from sanarestore.evaluation.speed import Subject, Timing, growth, in_turn, measure
from sanarestore.kernels import choice
from sanarestore.model.loading import save_model
from sanarestore.model.prompts import PromptEncoder
from sanarestore.options import RestoreOptions
from tests.conftest import random_refiner
from tests.published import latent_path

CPU = torch.device("cpu")


@pytest.fixture
def whole(tmp_path: Path, encoder: PromptEncoder) -> str:
    """A model with a latent path."""
    save_model(
        tmp_path / "whole", name="whole", refiner=random_refiner(), encoder=encoder, usual_prompts=["remove noise"],
        defaults={"prompt": "remove noise"}, training={}, latent=latent_path(prompt_width=8),
    )  # fmt: skip
    return str(tmp_path / "whole")


def test_every_part_is_timed_at_every_size(whole: str) -> None:
    timings = list(measure(RestoreOptions(model=whole, threads=1), "cpu", (96, 64), 2))
    assert [(timing.size, timing.part) for timing in timings] == [
        (size, part) for size in (64, 96) for part in ("restore", "encode", "step", "decode")
    ]
    for timing in timings:
        assert timing.seconds > 0
        assert timing.chance >= 1
        assert timing.teraflop > 0
        assert timing.gigabytes > 0
        assert (timing.ratio is None) == (timing.part == "restore") == (timing.tile_area_factor is not None)
        assert timing.ratio_interval is None or timing.ratio_interval[0] <= timing.ratio <= timing.ratio_interval[1]  # type: ignore[operator]
    pixels = {timing.size: timing.teraflop for timing in timings if timing.part == "decode"}
    assert pixels[96] / pixels[64] == pytest.approx((96 / 64) ** 2, rel=0.05)
    assert growth(timings).keys() == {"restore", "encode", "step", "decode"}


KERNELS = ["key sums", "attend", "depthwise GLU", "bias and SiLU", "norm and residual", "blend"]


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this device ran kernels: their references stand in for them, and for what is compiled."""
    monkeypatch.setattr(choice, "available", lambda device: True)
    monkeypatch.setattr(choice, "fits", lambda *tensors: False)
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)


@pytest.mark.usefixtures("kernels")
def test_kernels_are_parts_beside_their_references(whole: str) -> None:
    timings = list(measure(RestoreOptions(model=whole, threads=1), "cpu", (64,), 2))
    assert [timing.part for timing in timings[4:]] == [f"kernel: {name}" for name in KERNELS]
    for timing in timings[4:]:
        assert timing.seconds > 0
        assert timing.gigabytes > 0
        assert timing.ratio is not None
        assert timing.compiled_ratio is not None
        assert timing.compiled_ratio_interval is not None
        assert timing.compiled_ratio_interval[0] <= timing.compiled_ratio <= timing.compiled_ratio_interval[1]
        assert timing.compiled_seconds is not None
        assert timing.compiled_seconds < 0.02, "of one run, not of all"
    assert all("compiled_ratio" not in timing.to_json() for timing in timings[:4])


@torch.inference_mode()
def test_arms_of_kernels_do_the_same(whole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    latent = Subject(RestoreOptions(model=whole), CPU).restorer.latent
    assert latent is not None
    for size in (32, 96):
        for name, *arms in kernel_arms(latent, size):
            found = [arm() for arm in arms]
            if name != "blend":  # which gives nothing back
                assert isinstance(found[0], torch.Tensor)
                assert all(torch.equal(found[0], each) for each in found[1:]), name  # type: ignore[arg-type]


def test_a_model_of_a_refiner_alone_has_one_part(tiny_folder: Path) -> None:
    (timing,) = measure(RestoreOptions(model=str(tiny_folder), threads=1), "cpu", (64,), 1)
    assert (timing.part, timing.ratio, timing.steps) == ("restore", None, 1)
    assert growth([timing]) == {}


def test_both_arms_do_the_same(whole: str) -> None:
    subject = Subject(RestoreOptions(model=whole), CPU)
    parts = {part.name: part for part in subject.parts(64)}
    scale = subject.model.latent.autoencoder.config.scaling_factor  # type: ignore[union-attr]
    with torch.inference_mode():
        for part in ("encode", "step", "decode"):
            assert parts[part].ours().shape == parts[part].theirs().shape  # type: ignore[attr-defined, misc]
        image = torch.rand(1, 3, 64, 64)
        encoder, decoder = subject._theirs()
        ours = subject.restorer.latent.autoencoder  # type: ignore[union-attr]
        latent = ours.encode(image)
        assert torch.allclose(encoder(image * 2 - 1) * scale, latent, atol=1e-5)
        assert torch.allclose(decoder(latent / scale) / 2 + 0.5, ours.decode(latent), atol=1e-5)


def test_arms_take_turns_in_going_first() -> None:
    order: list[str] = []
    arms = [lambda name=name: order.append(name) for name in "abc"]
    seconds = in_turn(arms, 3, CPU)  # type: ignore[arg-type]
    assert "".join(order) == "abcbcacab"
    assert [len(rounds) for rounds in seconds] == [3, 3, 3]


def test_growth_is_the_power_of_the_pixel_count() -> None:
    def timing(part: str, size: int, seconds: float, factor: float | None = None) -> Timing:
        return Timing(
            part=part, size=size, steps=1, dtype="float32", device="cpu", rounds=1, seconds=seconds,
            seconds_per_megapixel=0, diffusers_seconds=None, ratio=None, ratio_interval=None, chance=1,
            peak_memory=None, beyond_buffers=None, tile_area_factor=factor, teraflop=0,
            of_compute=0, gigabytes=0, of_bandwidth=0,
        )  # fmt: skip

    timings = [timing("linear", size, size**2) for size in (64, 128, 256)]
    timings += [timing("square", size, size**4) for size in (64, 256)]
    timings += [timing("tiled", size, size**2 * factor, factor) for size, factor in ((64, 1.0), (128, 1.9), (256, 1.4))]
    assert growth([*timings, timing("once", 64, 1)]) == {
        "linear": pytest.approx(1), "square": pytest.approx(2), "tiled": pytest.approx(1),
    }  # fmt: skip


@pytest.mark.parametrize(("tile", "size"), [(64, 200), (96, 300), (None, 300)])
def test_the_factor_is_that_of_the_windows_areas(tiny_folder: Path, tile: int | None, size: int) -> None:
    (timing,) = measure(RestoreOptions(model=str(tiny_folder), threads=1, tile=tile), "cpu", (size,), 1)
    refiner = random_refiner()
    tiles = tiling.grid(size, size, tile=tile or 1024, halo=refiner.halo, stride=refiner.stride)
    areas = [(bottom - top) * (right - left) for top, bottom, left, right in (each.window for each in tiles)]
    # Each tile makes its modulations anew, from the prompt.
    assert timing.tile_area_factor == pytest.approx(sum(areas) / size**2, rel=2e-3)
    if timing.peak_memory is not None:
        assert timing.beyond_buffers == timing.peak_memory - 12 * size**2


def test_a_counter_counts_products_and_bytes() -> None:
    one, other = torch.ones(8, 16), torch.ones(16, 4)
    flop, moved = speed._counted(lambda: one @ other)
    assert flop == 2 * 8 * 16 * 4
    assert moved == 4 * (8 * 16 + 16 * 4 + 8 * 4)


@pytest.mark.parametrize(("sizes", "rounds"), [((), 1), ((16,), 1), ((64,), 0)])
def test_senseless_requests_are_refused(tiny_folder: Path, sizes: tuple[int, ...], rounds: int) -> None:
    with pytest.raises(UsageError, match="32 px or more"):
        list(measure(RestoreOptions(model=str(tiny_folder)), "cpu", sizes, rounds))
