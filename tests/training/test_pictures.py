"""Grids of validation images: choice, places and sizes of the images."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sanarestore.training.pictures import ROWS, WIDTH, chosen, grid, picture_of, pictures_in, write_pictures
from tests.training.labelled import labelled


def test_each_degradation_is_shown_with_another_photograph() -> None:
    batches = [labelled(name, 3) for name in ("a", "b")]
    found = chosen(batches)
    assert [each.label for each in found] == ["a", "b", "a", "b"]
    assert torch.equal(found[0].target_BCHW[0], batches[0].target_BCHW[0])
    assert torch.equal(found[1].target_BCHW[0], batches[1].target_BCHW[1])
    assert torch.equal(found[2].target_BCHW[0], batches[0].target_BCHW[1])
    assert len(chosen([labelled("a", 9)])) == ROWS
    assert len(chosen([labelled("a", 1), labelled("b", 2)])) == 3


@pytest.mark.parametrize("side", [16, 64, 192, 700])
def test_a_grid_fits_its_width(side: int) -> None:
    batch = labelled("noise:25", 1, side)
    sheet = grid([(batch, batch.target_BCHW)])
    assert WIDTH * 0.7 < sheet.width <= WIDTH


def test_a_row_shows_degraded_restored_and_target() -> None:
    batch = labelled("noise:25", 1)
    restored = torch.full_like(batch.target_BCHW, 0.25)
    sheet = np.asarray(grid([(batch, restored)])).astype(float) / 255
    shown = 6  # times as large
    wide = 64 * shown
    lefts = [12 + column * (wide + 12) for column in range(3)]
    images = [sheet[38 : 38 + wide : shown, left : left + wide : shown] for left in lefts]
    wanted = [each[0].clamp(0, 1).permute(1, 2, 0) for each in (batch.degraded_BCHW, restored, batch.target_BCHW)]
    for image, expected in zip(images, wanted, strict=True):
        assert np.abs(image - expected.numpy()).max() < 0.01


def test_long_and_foreign_captions_are_drawn() -> None:
    batch = labelled("please remove the noise, the dust and every scratch of this old photograph", 1, 48)
    grid([(batch, batch.target_BCHW)])
    other = labelled("ノイズを除去", 1, 48)
    grid([(other, other.target_BCHW)])


def test_grids_are_found_by_their_steps(tmp_path: Path) -> None:
    batch = labelled("noise:25", 1)
    for step in (500, 20, 0):
        write_pictures(tmp_path, step, [(batch, batch.target_BCHW)])
    (tmp_path / "pictures/step-mine.webp").write_bytes(b"")
    assert [step for step, _ in pictures_in(tmp_path)] == [0, 20, 500]
    picture = picture_of(tmp_path, 20)
    assert picture is not None
    assert picture.dtype == np.uint8
    assert picture_of(tmp_path, 21) is None
