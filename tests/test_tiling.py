"""Tests of tiling: tiles cover an image once, and tiled maps equal untiled ones."""

from collections.abc import Generator
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sanarestore.tiling import (
    balanced_cuts,
    cut,
    grid,
    map_with_halo,
    mirror,
    overlapping,
    part_of,
    strips,
    sum_with_halo,
    whole_strides,
)


@given(size=st.integers(1, 5000), largest=st.integers(16, 1500), stride=st.sampled_from([1, 8, 16, 32]))
def test_cuts_are_few_even_and_aligned(size: int, largest: int, stride: int) -> None:
    cuts = balanced_cuts(size, largest, stride)
    spans = np.diff(cuts)
    limit = max(largest // stride, 1) * stride
    units = -(-size // stride)
    assert cuts[0] == 0
    assert cuts[-1] == size
    assert all(cut % stride == 0 for cut in cuts[:-1])
    assert spans.min() > 0
    assert spans.max() <= limit
    assert len(spans) == -(-units // (limit // stride))
    # The image may cut the last span short; the others differ by at most one stride.
    assert len(spans) == 1 or np.ptp(spans[:-1]) <= stride


@given(
    height=st.integers(1, 200), width=st.integers(1, 200), tile=st.integers(16, 90), margin=st.sampled_from([0, 16, 32])
)  # fmt: skip
def test_cores_cover_an_image_once_and_windows_stay_inside_the_margin(
    height: int, width: int, tile: int, margin: int
) -> None:
    owned = np.zeros((height, width), dtype=int)
    for part in grid(height, width, tile=tile, halo=32, stride=16, margin=margin):
        top, bottom, left, right = part.core
        owned[top:bottom, left:right] += 1
        above, below, before, after = part.window
        assert above <= top
        assert before <= left
        assert below >= bottom
        assert after >= right
        assert above % 16 == below % 16 == before % 16 == after % 16 == 0
        assert -margin <= above <= max(top - 32, -margin)
        assert -margin <= before <= max(left - 32, -margin)
        assert below < height + 16 + margin
        assert after < width + 16 + margin
    assert (owned == 1).all()


@given(
    height=st.integers(1, 200), width=st.integers(1, 60), tile=st.integers(16, 90), margin=st.sampled_from([0, 16, 32])
)  # fmt: skip
def test_strips_are_the_grid_row_by_row_and_only_move_down(height: int, width: int, tile: int, margin: int) -> None:
    chosen = {"tile": tile, "halo": 32, "stride": 16, "margin": margin}
    found = strips(height, width, **chosen)
    assert [part for strip in found for part in strip.tiles] == grid(height, width, **chosen)
    assert [strip.core[0] for strip in found[1:]] == [strip.core[1] for strip in found[:-1]]
    assert [strip.needed[0] for strip in found] == sorted(strip.needed[0] for strip in found)
    for strip in found:
        for part in strip.tiles:
            top, bottom, *_ = part_of(part.window, height, width)
            assert strip.needed[0] <= min(top, strip.core[0])
            assert max(bottom, strip.core[1]) <= strip.needed[1] <= height


@given(
    height=st.integers(1, 400), width=st.integers(1, 400), tile=st.integers(16, 90), margin=st.sampled_from([0, 16, 32])
)  # fmt: skip
def test_all_windows_have_the_same_size(height: int, width: int, tile: int, margin: int) -> None:
    parts = grid(height, width, tile=tile, halo=32, stride=16, margin=margin)
    assert len({(part.window[1] - part.window[0], part.window[3] - part.window[2]) for part in parts}) == 1
    for part in parts:
        for core, window, size in ((part.core[:2], part.window[:2], height), (part.core[2:], part.window[2:], width)):
            last = -(-size // 16) * 16 + margin
            assert -margin <= window[0] <= max(core[0] - 32, -margin)
            assert min(core[1] + 32, last) <= window[1] <= last
            assert window[1] - window[0] <= max(tile // 16 * 16, 16) + 2 * 32
            assert window[0] % 16 == window[1] % 16 == 0


def test_a_window_is_at_most_a_tile_and_two_halos() -> None:
    for part in grid(1000, 777, tile=128, halo=96, stride=16):
        above, below, before, after = part.window
        assert below - above <= 128 + 2 * 96
        assert after - before <= 128 + 2 * 96


@pytest.mark.parametrize(
    ("tile", "overlap", "found"),
    [(1000, 100, (992, 128)), (1024, 128, (1024, 128)), (70, 35, (64, 32)), (8, 0, (32, 0))],
)
def test_tiles_are_rounded_down_and_overlaps_up_to_strides(tile: int, overlap: int, found: tuple[int, int]) -> None:
    assert whole_strides(tile, overlap, 32) == found


def test_a_halo_that_is_no_multiple_of_the_stride_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple"):
        grid(100, 100, tile=64, halo=20, stride=16)


@pytest.mark.parametrize(
    ("margin", "message"), [(8, "margin of 8 is not a multiple"), (48, "larger than the halo of 32")]
)
def test_an_unaligned_or_too_large_margin_is_refused(margin: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grid(100, 100, tile=64, halo=32, stride=16, margin=margin)


def test_mirror_repeats_as_often_as_necessary() -> None:
    assert mirror(np.arange(-4, 8), 3).tolist() == [2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0, 1]
    assert mirror(np.arange(-2, 4), 1).tolist() == [0] * 6
    assert mirror(np.arange(-2, 4), 2).tolist() == [1, 0, 0, 1, 1, 0]
    values = np.arange(7)
    assert np.array_equal(values[mirror(np.arange(-6, 13), 7)], np.pad(values, 6, mode="symmetric"))


def test_a_cut_inside_the_image_is_a_view() -> None:
    image = torch.rand(3, 40, 50)
    assert cut(image, (8, 24, 16, 48)).data_ptr() == image[:, 8:, 16:].data_ptr()


def test_a_cut_at_a_border_copies_only_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Index selection from a channels-last image copies the whole tensor that it selects from."""
    image = torch.rand(300, 200, 3).permute(2, 0, 1)
    rows, columns = (
        torch.from_numpy(mirror(np.arange(*span), size)) for span, size in (((200, 304), 300), ((120, 208), 200))
    )
    expected = image[:, rows][:, :, columns]
    given: list[int] = []
    select = Tensor.index_select

    def noted(self: Tensor, dim: int, index: Tensor) -> Tensor:
        given.append(self.numel())
        return select(self, dim, index)

    monkeypatch.setattr(Tensor, "index_select", noted)
    assert torch.equal(cut(image, (200, 304, 120, 208)), expected)
    assert max(given) <= 3 * 104 * 88


def blur_twice(window: Tensor) -> Tensor:
    """Apply a linear map of radius 2 with zero padding, like two convolutions."""
    kernel = torch.ones(3, 1, 3, 3) / 9
    once = F.conv2d(window[None], kernel, padding=1, groups=3)
    return F.conv2d(once, kernel, padding=1, groups=3)[0]


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (31, 33), (47, 48), (48, 49), (100, 64)])
@pytest.mark.parametrize("tile", [8, 24, 48])
def test_a_tiled_map_equals_an_untiled_one(size: tuple[int, int], tile: int) -> None:
    height, width = size
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(1))
    whole, tiled = torch.full_like(image, torch.nan), torch.full_like(image, torch.nan)
    for _ in map_with_halo(blur_twice, (image,), whole, tile=4096, halo=8, stride=8):
        pass
    progress = list(map_with_halo(blur_twice, (image,), tiled, tile=tile, halo=8, stride=8))
    assert torch.allclose(tiled, whole, atol=1e-6, rtol=0)
    assert progress == [(n, len(progress)) for n in range(1, len(progress) + 1)]


@pytest.mark.parametrize("margin", [0, 8])
@pytest.mark.parametrize("size", [(1, 1), (31, 33), (47, 48), (100, 64)])
def test_a_function_may_be_told_the_core_and_return_it_alone(size: tuple[int, int], margin: int) -> None:
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(1))
    expected, found = torch.full_like(image, torch.nan), torch.full_like(image, torch.nan)
    options = {"tile": 24, "halo": 8, "stride": 8, "margin": margin}

    def of_core(window: Tensor, core: tuple[int, int, int, int]) -> Tensor:
        return blur_twice(window)[:, core[0] : core[1], core[2] : core[3]]

    list(map_with_halo(blur_twice, (image,), expected, **options))
    list(map_with_halo(of_core, (image,), found, **options, by_core=True))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (31, 33), (48, 49), (100, 64)])
@pytest.mark.parametrize("tile", [8, 24, 4096])
def test_a_margin_continues_the_image_by_mirroring(size: tuple[int, int], tile: int) -> None:
    """Within the radius of the map, pixels beyond the border are mirrored and not zero, for every tile size."""
    image = 0.5 + torch.rand(3, *size, generator=torch.Generator().manual_seed(1))
    rows, columns = (torch.from_numpy(mirror(np.arange(-8, side + 8), side)) for side in size)
    expected = blur_twice(image[:, rows][:, :, columns])[:, 8:-8, 8:-8]
    found = {}
    for margin in (0, 8):
        found[margin] = torch.full_like(image, torch.nan)
        seen: list[tuple[int, ...]] = []

        def noted(window: Tensor, seen: list[tuple[int, ...]] = seen) -> Tensor:
            seen.append(tuple(window.shape[1:]))
            return blur_twice(window)

        for _ in map_with_halo(noted, (image,), found[margin], tile=tile, halo=8, stride=8, margin=margin):
            pass
        assert len(set(seen)) == 1
        assert all(side % 8 == 0 for side in seen[0])
    assert torch.allclose(found[8], expected, atol=1e-6, rtol=0)
    assert (found[0] - expected).abs().max() > 0.1


def test_a_margin_is_removed_from_downsampled_maps() -> None:
    image = torch.rand(1, 20, 40, generator=torch.Generator().manual_seed(1))
    whole, tiled = torch.full((1, 10, 20), torch.nan), torch.full((1, 10, 20), torch.nan)
    for output, tile in ((whole, 4096), (tiled, 8)):
        options = {"tile": tile, "halo": 8, "stride": 4, "margin": 4}
        for _ in map_with_halo(
            lambda window: F.avg_pool2d(window, 2), (image,), output, output_downsample=2, **options
        ):
            pass
    assert torch.equal(whole, F.avg_pool2d(image, 2))
    assert torch.equal(tiled, whole)


def test_a_halo_that_is_too_small_changes_the_result() -> None:
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(1))
    whole, tiled = torch.empty_like(image), torch.empty_like(image)
    list(map_with_halo(blur_twice, (image,), whole, tile=4096, halo=0, stride=1))
    list(map_with_halo(blur_twice, (image,), tiled, tile=16, halo=1, stride=1))
    assert not torch.allclose(tiled, whole, atol=1e-3, rtol=0)


@pytest.mark.parametrize("tile", [8, 16, 24, 200])
def test_sums_count_every_position_once(tile: int) -> None:
    """Halos are not counted, and the last tile may be cut short."""
    image = torch.arange(3 * 5 * 11, dtype=torch.float64).reshape(3, 5, 11)
    seen = []

    def total(window: torch.Tensor, core: tuple[slice, slice]) -> torch.Tensor:
        seen.append(window.shape)
        return window[:, core[0], core[1]].sum(dim=(1, 2))

    results = []

    def steps() -> Generator[tuple[int, int], None, None]:
        results.append((yield from sum_with_halo(total, image, tile=tile, halo=8, stride=8, downsample=4)))

    counts = list(steps())
    assert torch.equal(results[0], image.sum(dim=(1, 2)))
    assert counts == [(done, len(seen)) for done in range(1, len(seen) + 1)]
    assert max(max(shape[1:]) for shape in seen) <= (tile + 2 * 8) // 4


@given(
    height=st.integers(1, 200), width=st.integers(1, 90), tile=st.integers(2, 60), overlap=st.integers(0, 30),
    stride=st.sampled_from([1, 8]),
)  # fmt: skip
def test_overlapping_windows_weigh_and_own_every_pixel_once(
    height: int, width: int, tile: int, overlap: int, stride: int
) -> None:
    if -(-overlap // stride) >= -(-tile // stride):
        with pytest.raises(ValueError, match="cannot overlap"):
            overlapping(height, width, tile=tile, overlap=overlap, stride=stride)
        return
    total, owners = torch.zeros(height, width), torch.zeros(height, width)
    windows = overlapping(height, width, tile=tile, overlap=overlap, stride=stride)
    for window in windows:
        top, bottom, left, right = window.box
        assert 0 <= top < bottom <= height
        assert 0 <= left < right <= width
        assert top % stride == left % stride == 0
        assert max(bottom - top, right - left) <= -(-tile // stride) * stride
        assert window.weight_hw.min() > 0
        total[top:bottom, left:right] += window.weight_hw
        first, last, begin, end = window.owned
        assert owners[first:last, begin:end].eq(0).all()
        assert (top <= first, last, left <= begin, end) == (True, bottom, True, right)
        owners[first:last, begin:end] += 1
    assert torch.allclose(total, torch.ones(()), atol=1e-6)
    assert owners.eq(1).all()
    columns = sorted({window.box[2:] for window in windows})
    assert all(one[1] - other[0] >= min(overlap, one[1] - one[0]) for one, other in pairwise(columns))


def test_windows_are_few_and_no_larger_than_needed() -> None:
    assert [window.box[2:] for window in overlapping(8, 20, tile=8, overlap=2)] == [(0, 8), (6, 14), (12, 20)]
    assert [window.box[2:] for window in overlapping(8, 21, tile=12, overlap=2)] == [(0, 12), (9, 21)]
    (one,) = overlapping(5, 7, tile=64, overlap=8)
    assert one.weight_hw.eq(1).all()
    weights = [window.weight_hw[0] for window in overlapping(1, 6, tile=4, overlap=2)]
    assert torch.allclose(weights[0], torch.tensor([1, 1, 2 / 3, 1 / 3]))
    assert torch.allclose(weights[1], weights[0].flip(0))
