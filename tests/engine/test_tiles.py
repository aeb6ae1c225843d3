"""Tests of tiles that fit a device, and of the one progress count shared by all stages."""

import platform
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from sanarestore.engine.tiles import Steps, Tiles, run_stages
from sanarestore.errors import OutOfMemory


def stage(*yielded: tuple[int, int]) -> Steps:
    yield from yielded


def test_stages_share_one_progress_count() -> None:
    steps = list(run_stages([(stage((1, 2), (2, 2)), 2), (stage((1, 1)), 1), (stage((1, 3), (2, 3), (3, 3)), 3)]))
    assert steps == [(done, 6) for done in range(1, 7)]


def test_a_restarted_stage_raises_the_total_count() -> None:
    steps = list(run_stages([(stage((1, 2), (1, 4), (2, 4), (3, 4), (4, 4)), 2), (stage((1, 1)), 1)]))
    assert steps == [(1, 3), (1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_a_stage_does_not_start_before_the_previous_one_ends() -> None:
    ran: list[str] = []

    def noted(name: str) -> Steps:
        ran.append(name)
        yield 1, 1

    steps: Iterator[tuple[int, int]] = run_stages([(noted("first"), 1), (noted("second"), 1)])
    next(steps)
    assert ran == ["first"]


@pytest.mark.parametrize("size", [(1, 1), (64, 65), (300, 700)])
def test_the_count_equals_the_number_of_mapped_tiles(size: tuple[int, int]) -> None:
    tiles = Tiles(torch.device("cpu"), 64)
    image, output = torch.rand(3, *size), torch.empty(3, *size)
    steps = list(tiles.map(lambda window: window, (image,), output, halo=8, stride=8))
    assert len(steps) == tiles.count(*size, stride=8)
    assert torch.equal(output, image)


def test_untiled_images_are_never_cut_and_memory_errors_are_reported() -> None:
    tiles = Tiles(torch.device("cpu"), whole=True)
    assert tiles.count(5000, 9000, stride=32) == 1

    def refuse(_: Tensor) -> Tensor:
        raise torch.OutOfMemoryError

    with pytest.raises(OutOfMemory, match=r"untiled.*--tiling off"):
        list(tiles.map(refuse, (torch.rand(3, 8, 8),), torch.empty(3, 8, 8), halo=8, stride=8))


def test_free_memory_is_returned_to_the_system_every_few_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gaps in the heap would otherwise add up, tile by tile, to more than the image."""
    released: list[torch.device] = []
    monkeypatch.setattr("sanarestore.engine.tiles.release", released.append)
    image, output = torch.zeros(3, 64, 64 * 9), torch.empty(3, 64, 64 * 9)
    for device, times in (("cpu", 5), ("meta", 0)):
        released.clear()
        steps = Tiles(torch.device(device), 64).map(lambda window: window, (image,), output, halo=0, stride=8)
        assert len(list(steps)) == 9
        assert released == [torch.device(device)] * times


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_later_tiles_reuse_the_memory_pages_of_earlier_ones() -> None:
    """The system counts page faults in a separate process, because the setting holds for a whole process."""
    script = """
import resource, torch
from sanarestore.engine.tiles import keep_pages

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.empty(64 << 20, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

fresh = faults()
keep_pages(torch.device("cuda"))
same = faults()
keep_pages(torch.device("cpu"))
faults()
print(fresh, same, faults())
"""
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    fresh, same, kept = map(int, printed.split())
    assert same > 0.5 * fresh
    assert kept < 0.05 * fresh
