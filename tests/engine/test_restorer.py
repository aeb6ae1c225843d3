"""Tests of the restorer: tiles change nothing, images keep all they carry, and a bad file fails alone."""

import copy
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from sanarestore import images, options
from sanarestore.degradations.requests import Request
from sanarestore.engine.pixels import resized
from sanarestore.engine.restorer import Restorer
from sanarestore.engine.tiles import DEFAULT_TILE
from sanarestore.errors import ImageError, OutOfMemory, UnreadableImage
from sanarestore.images.image import to_stored
from sanarestore.model.loading import RestorationModel
from sanarestore.model.prompts import Prompts
from sanarestore.model.refiner import Refiner
from sanarestore.model.refiner_config import RefinerConfig
from sanarestore.options import RestoreOptions
from tests.conftest import photo, random_refiner

ROUNDING = 4e-6
"""A quarter of a 16-bit step: sums in another order differ by this much after a random network."""

METADATA = images.Metadata(icc=None, xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>", dpi=(300.0, 300.0))


@pytest.fixture
def identity_model(tiny_model: RestorationModel) -> RestorationModel:
    """A model with an untrained refiner: random layers inside, a head of zeros."""
    refiner = Refiner(RefinerConfig(widths=(8, 8, 16), encoder_blocks=(1, 1), decoder_blocks=(1, 1), prompt_width=8))
    return replace(tiny_model, refiner=refiner.eval().requires_grad_(False))


def image_of(pixels_HWC: npt.NDArray[np.float32], depth: images.Depth = "float32", **fields: Any) -> images.Image:
    return images.Image(pixels_HWC=pixels_HWC, depth=depth, format="tiff", **fields)


def ran(model: RestorationModel, image: images.Image, **chosen: Any) -> images.Image:
    return Restorer(RestoreOptions(**chosen), device="cpu", model=model)(image)


def difference(one: images.Image, other: images.Image) -> float:
    return float(np.abs(one.pixels_HWC - other.pixels_HWC).max())


@pytest.mark.usefixtures("tiny_tiles")
@pytest.mark.parametrize("height", [1, 2, 31, 32, 33, 70, 130])
def test_tiled_results_equal_untiled_ones(height: int, small_model: RestorationModel) -> None:
    """CPU results agree within rounding: convolutions sum in another order for other widths."""
    for width in (1, 2, 31, 32, 33, 70, 130):
        image = image_of(photo(height, width))
        whole = ran(small_model, image)
        assert whole.pixels_HWC.shape == (height, width, 3)
        # One pixel is a flat field, in which there is nothing to change.
        assert difference(whole, image) > 0.01 or height == width == 1
        for tile in (8, 32):
            assert difference(ran(small_model, image, tile=tile), whole) < ROUNDING


def test_tiled_results_equal_untiled_ones_for_a_deep_refiner(tiny_model: RestorationModel) -> None:
    image = image_of(photo(150, 410))
    whole = ran(tiny_model, image, tile=1024)
    assert difference(ran(tiny_model, image, tile=64), whole) < ROUNDING
    assert difference(whole, image) > 0.01


def test_tiles_share_the_colour_correction_of_the_whole_image(tiny_model: RestorationModel) -> None:
    """Tiled and untiled results agree, and content far beyond the receptive field of a pixel changes the pixel."""
    model = replace(tiny_model, refiner=random_refiner(colour_correction=4))
    pixels, asked = photo(150, 700), Request.of("colour").plain
    whole = ran(model, image_of(pixels), tile=1024, prompt=asked)
    assert difference(ran(model, image_of(pixels), tile=64, prompt=asked), whole) < ROUNDING
    pixels[:, 400:] *= 0.5
    darker = ran(model, image_of(pixels), tile=64, prompt=asked)
    assert np.abs(darker.pixels_HWC - whole.pixels_HWC)[:, :150].mean() > 1e-4
    plain = [ran(tiny_model, image_of(each)).pixels_HWC[:, :150] for each in (photo(150, 700), pixels)]
    assert np.array_equal(*plain), "without colour correction distant content changes nothing"


def windows_seen(restorer: Restorer) -> list[tuple[int, ...]]:
    """Return a list that collects the shapes of the network's inputs."""
    seen: list[tuple[int, ...]] = []

    def look(_module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        seen.append(tuple(arguments[0].shape))

    restorer._refinement.refiners[None].register_forward_pre_hook(look)
    return seen


def test_windows_do_not_grow_with_the_image(small_model: RestorationModel) -> None:
    for height, width in ((64, 500), (700, 900)):
        restorer = Restorer(RestoreOptions(tile=64), device="cpu", model=small_model)
        seen = windows_seen(restorer)
        steps = list(restorer.stages(image_of(photo(height, width))))
        assert len(seen) == len(steps) == -(-height // 64) * -(-width // 64)
        assert max(max(shape[2:]) for shape in seen) <= 64 + 2 * 32
        assert {shape[:2] for shape in seen} == {(1, 3)}
        assert steps == [(done, len(steps)) for done in range(1, len(steps) + 1)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_untrained_refiner_keeps_every_16_bit_code(
    dtype: str, channels: int, identity_model: RestorationModel
) -> None:
    codes = np.arange(65536, dtype=np.uint16).reshape(128, 512, 1)
    codes = np.concatenate([codes, codes[::-1], codes[:, ::-1]], axis=2)[..., :channels]
    image = image_of(images.to_float(codes, "uint16"), "uint16")
    restored = ran(identity_model, image, dtype=dtype, tile=64)
    assert np.array_equal(to_stored(restored), codes)
    assert np.array_equal(restored.pixels_HWC, image.pixels_HWC)


@pytest.mark.parametrize("channels", [1, 3])
def test_fidelity_blends_the_input_with_the_result(channels: int, tiny_model: RestorationModel) -> None:
    image = image_of(photo(40, 50)[..., :channels])
    full = ran(tiny_model, image)
    assert np.array_equal(ran(tiny_model, image, fidelity=0).pixels_HWC, image.pixels_HWC)
    half = ran(tiny_model, image, fidelity=0.5)
    assert np.allclose(half.pixels_HWC, (full.pixels_HWC + image.pixels_HWC) / 2, atol=1e-6, rtol=0)
    assert half.pixels_HWC.shape == image.pixels_HWC.shape


def test_fidelity_zero_does_not_run_the_refiner(tiny_model: RestorationModel) -> None:
    restorer = Restorer(RestoreOptions(fidelity=0), device="cpu", model=tiny_model)
    seen = windows_seen(restorer)
    restorer(image_of(photo(40, 50)))
    assert seen == []


def test_bfloat16_is_close_to_float32_and_leaves_the_model_unchanged(tiny_model: RestorationModel) -> None:
    image = image_of(photo(64, 64))
    before = {name: tensor.clone() for name, tensor in tiny_model.refiner.state_dict().items()}
    near = ran(tiny_model, image, dtype="bfloat16")
    exact = ran(tiny_model, image, dtype="float32")
    assert 0 < difference(near, exact) < 0.04
    for name, tensor in tiny_model.refiner.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, before[name])


def test_the_prompt_changes_the_result(tiny_model: RestorationModel) -> None:
    image = image_of(photo(40, 50))
    default = ran(tiny_model, image)
    assert difference(ran(tiny_model, image, prompt="Restore this image"), default) == 0
    assert difference(ran(tiny_model, image, prompt="remove noise"), default) > 0
    assert (
        difference(ran(tiny_model, image, prompt="remove the noise!"), ran(tiny_model, image, prompt="remove noise"))
        == 0
    )


def unread(model: RestorationModel) -> RestorationModel:
    """Return the model with a reader that understands no prompt."""
    reader = SimpleNamespace(read=lambda texts: [Request(None, understood=False) for _ in texts])
    table = model.prompts.known
    return replace(model, prompts=Prompts(table, lambda: pytest.fail("nothing is to be encoded"), lambda: reader))


def test_a_prompt_that_is_not_understood_is_ignored_and_noted(tiny_model: RestorationModel) -> None:
    image = image_of(photo(40, 50))
    restored = ran(unread(tiny_model), image, prompt="asdf qwer")
    assert np.array_equal(restored.pixels_HWC, ran(tiny_model, image).pixels_HWC)
    assert restored.notes == (
        "the prompt 'asdf qwer' was not understood; the photograph was restored as without a prompt",
    )


def test_every_page_is_restored_like_an_image_of_its_own(tiny_model: RestorationModel) -> None:
    pages = [image_of(photo(20, 30), "uint8"), image_of(photo(9, 40, seed=1), "uint16"), image_of(photo(33, 7, seed=2))]
    restorer = Restorer(RestoreOptions(scale=2), device="cpu", model=tiny_model)
    steps, shown = restorer.stages(replace(pages[0], more_pages=tuple(pages[1:]))), [0.0]
    while True:
        try:
            done, total = next(steps)
        except StopIteration as finished:
            whole: images.Image = finished.value
            break
        shown.append(done / total)
    assert shown == sorted(shown)
    assert shown[-1] == 1
    for page, alone in zip((whole, *whole.more_pages), pages, strict=True):
        assert np.array_equal(page.pixels_HWC, restorer(alone).pixels_HWC)
        assert page.depth == alone.depth


@pytest.mark.parametrize("channels", [1, 3])
def test_strength_blends_the_result_with_the_input(channels: int, tiny_model: RestorationModel) -> None:
    image = image_of(photo(40, 50)[..., :channels], "uint16")
    full = ran(tiny_model, image)
    assert np.array_equal(ran(tiny_model, image, strength=0.0).pixels_HWC, image.pixels_HWC)
    assert np.array_equal(ran(tiny_model, image, strength=1.0).pixels_HWC, full.pixels_HWC)
    quarter = ran(tiny_model, image, strength=0.25).pixels_HWC
    assert np.allclose(quarter, image.pixels_HWC + 0.25 * (full.pixels_HWC - image.pixels_HWC), atol=1e-6, rtol=0)
    assert difference(full, image) > 0.01


def test_gray_stored_in_three_channels_is_restored_like_one_channel(tiny_model: RestorationModel) -> None:
    gray = photo(40, 50)[..., :1]
    restored = ran(tiny_model, image_of(np.repeat(gray, 3, axis=2))).pixels_HWC
    assert np.ptp(restored, axis=2).max() == 0
    assert np.array_equal(restored[..., :1], ran(tiny_model, image_of(gray)).pixels_HWC)


def test_fully_transparent_pixels_do_not_change_and_have_no_influence(tiny_model: RestorationModel) -> None:
    alpha = np.full((40, 50), 255, np.uint8)
    alpha[:, 30:] = 0
    restored = []
    for hidden in (0.0, 1.0):
        pixels = photo(40, 50)
        pixels[:, 30:] = hidden
        image = image_of(pixels, "uint8", alpha_HW=alpha)
        restored.append(ran(tiny_model, image).pixels_HWC)
        assert np.array_equal(restored[-1][:, 30:], pixels[:, 30:])
    assert np.array_equal(restored[0][:, :30], restored[1][:, :30])


@pytest.mark.parametrize("kinds", [("noise",), ("noise", "blur")])
def test_colour_is_corrected_only_when_the_prompt_names_light_or_colour(
    kinds: tuple[str, ...], tiny_model: RestorationModel
) -> None:
    """The bias of the curve makes any colour correction visible."""
    refiner = random_refiner(colour_correction=4)
    assert refiner.colour_correction
    refiner.colour_correction.curve.bias.fill_(0.5)
    model, image = replace(tiny_model, refiner=refiner), image_of(photo(40, 50))
    uncorrected = replace(model, refiner=copy.deepcopy(refiner))
    uncorrected.refiner.colour_correction = None
    prompt = Request.of(*kinds).plain
    assert difference(ran(model, image, prompt=prompt), ran(uncorrected, image, prompt=prompt)) == 0
    lit = Request.of(*kinds, "lowlight").plain
    assert ran(model, image, prompt=lit).pixels_HWC.mean() > ran(uncorrected, image, prompt=lit).pixels_HWC.mean() + 0.1


def test_alpha_metadata_and_notes_pass_through_unchanged(tiny_model: RestorationModel) -> None:
    alpha = (photo(40, 50, seed=2)[..., 0] * 65535).astype(np.uint16)
    image = image_of(photo(40, 50), "uint16", alpha_HW=alpha, alpha_kind="associated", metadata=METADATA, notes=("n",))
    before = image.pixels_HWC.copy()
    restored = ran(tiny_model, image)
    assert replace(restored, pixels_HWC=image.pixels_HWC) == image  # all other fields are the same objects
    assert np.array_equal(image.pixels_HWC, before)
    assert restored.alpha_HW is not None
    assert np.array_equal(restored.alpha_HW, alpha)


def enlarged(image: images.Image, scale: float) -> images.Image:
    return resized(image, round(image.width * scale), round(image.height * scale))


@pytest.mark.parametrize("scale", [1.3, 2, 4])
def test_images_are_enlarged_before_they_are_restored(scale: float, tiny_model: RestorationModel) -> None:
    alpha = np.full((20, 30), 200, dtype=np.uint8)
    image = image_of(photo(20, 30), "uint8", alpha_HW=alpha)
    restored = ran(tiny_model, image, scale=scale)
    larger = enlarged(image, scale)
    assert (restored.height, restored.width) == (larger.height, larger.width) == (20 * scale, 30 * scale)
    assert np.array_equal(restored.pixels_HWC, ran(tiny_model, larger).pixels_HWC)
    by_side = ran(tiny_model, image, long_side=round(30 * scale))
    assert np.array_equal(restored.pixels_HWC, by_side.pixels_HWC)
    assert by_side.notes == ()


@pytest.mark.parametrize("chosen", [{}, {"strength": 0}])
def test_a_photograph_that_is_too_large_is_shrunk_after_it_is_restored(
    chosen: dict[str, Any], tiny_model: RestorationModel
) -> None:
    image = image_of(photo(40, 61), "uint8", alpha_HW=np.full((40, 61), 200, dtype=np.uint8))
    shrunk = ran(tiny_model, image, long_side=30, **chosen)
    expected = resized(ran(tiny_model, image, **chosen), 30, 20)
    assert np.array_equal(shrunk.pixels_HWC, expected.pixels_HWC)
    assert shrunk.alpha_HW is not None
    assert shrunk.alpha_HW.shape == (20, 30)
    assert (shrunk.alpha_HW == 200).all()


def test_a_photograph_that_is_too_small_is_enlarged_four_times_with_a_note(tiny_model: RestorationModel) -> None:
    restored = ran(tiny_model, image_of(photo(10, 15), "uint8"), long_side=500)
    assert (restored.height, restored.width) == (40, 60)
    assert "to 60 instead of 500 pixels" in restored.notes[0]


def short_of_memory(restorer: Restorer, largest: int, error: Callable[[], Exception]) -> list[int]:
    """Make the network fail for windows above a size; return the list of the sizes asked for."""
    asked: list[int] = []

    def refuse(_module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        asked.append(max(arguments[0].shape[2:]))
        if asked[-1] > largest:
            raise error()

    restorer._refinement.refiners[None].register_forward_pre_hook(refuse)
    return asked


@pytest.mark.parametrize(
    "error",
    [
        lambda: torch.OutOfMemoryError("CUDA out of memory."),
        lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."),
        lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError,
    ],
)  # fmt: skip
def test_running_out_of_memory_halves_the_tile(error: Callable[[], Exception], small_model: RestorationModel) -> None:
    image = image_of(photo(256, 200))
    whole = ran(small_model, image)
    restorer = Restorer(RestoreOptions(), device="cpu", model=small_model)
    asked = short_of_memory(restorer, 130, error)
    steps = list(restorer.stages(image))
    # The default tile, 1024, is larger than the image: it is halved from the image's size, not to 512.
    assert restorer.tile == 64
    assert asked[:2] == [256 + 2 * 8, 128 + 8 + 32]
    assert max(asked[2:]) <= 64 + 2 * 32
    assert steps == [(done, len(steps)) for done in range(1, len(steps) + 1)]
    assert difference(restorer(image), whole) < ROUNDING


def test_running_out_of_memory_midway_restarts_with_smaller_tiles(small_model: RestorationModel) -> None:
    """The count starts over, and the work done with larger tiles is repeated."""
    restorer = Restorer(RestoreOptions(tile=128), device="cpu", model=small_model)
    left = iter([False, False, True])

    def refuse(_module: nn.Module, _arguments: tuple[Tensor, ...]) -> None:
        if next(left, False):
            raise torch.OutOfMemoryError

    restorer._refinement.refiners[None].register_forward_pre_hook(refuse)
    image = image_of(photo(200, 200))
    assert [total for _, total in restorer.stages(image)] == [4] * 2 + [16] * 16
    assert difference(restorer(image), ran(small_model, image)) < ROUNDING


def test_an_image_fails_when_even_the_smallest_tile_does_not_fit(small_model: RestorationModel) -> None:
    restorer = Restorer(RestoreOptions(), device="cpu", model=small_model)
    short_of_memory(restorer, 10, torch.OutOfMemoryError)
    with pytest.raises(OutOfMemory, match=r"tiles of \d+ px.*device='cpu'"):
        restorer(image_of(photo(300, 200)))
    assert restorer.tile >= options.SMALLEST_TILE


def test_other_errors_are_not_mistaken_for_running_out_of_memory(small_model: RestorationModel) -> None:
    restorer = Restorer(RestoreOptions(), device="cpu", model=small_model)
    short_of_memory(restorer, 10, lambda: RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes"):
        restorer(image_of(photo(300, 200)))
    assert restorer.tile == DEFAULT_TILE["cpu"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite_are_refused(bad: float, tiny_model: RestorationModel) -> None:
    pixels = photo(20, 20)
    pixels[3, 4, 1] = bad
    with pytest.raises(UnreadableImage, match="not finite numbers"):
        ran(tiny_model, image_of(pixels))


def test_a_result_that_is_not_finite_is_an_error(tiny_model: RestorationModel) -> None:
    tiny_model.refiner.head.bias.fill_(float("nan"))
    with pytest.raises(ImageError, match="finite"):
        ran(tiny_model, image_of(photo(20, 20)))


def test_values_outside_0_to_1_are_kept(identity_model: RestorationModel) -> None:
    image = image_of(photo(20, 20) * 8 - 2)
    assert np.array_equal(ran(identity_model, image).pixels_HWC, image.pixels_HWC)
