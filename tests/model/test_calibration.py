"""Files of calibrations: packed roundings come back, and what does not fit is refused."""

from pathlib import Path

import pytest
import torch

from sanarestore.errors import WeightsError
from sanarestore.kernels.int8_convolution import PAIR, largest_pair
from sanarestore.model.calibration import (
    Calibration,
    nearest_codes,
    packed,
    read_calibrations,
    shapes,
    unpacked,
    write_calibrations,
)
from sanarestore.model.refiner_config import RefinerConfig
from sanarestore.model.tensors import read_tensors, write_tensors
from sanarestore.training.rounding import rounded, steps

CONFIG = RefinerConfig(widths=(8, 12, 16), encoder_blocks=(1, 1), decoder_blocks=(1, 1), prompt_width=12)


def calibration() -> Calibration:
    return Calibration({name: torch.ones(shape).to(dtype_of(name)) for name, shape in shapes(CONFIG).items()})


def dtype_of(name: str) -> torch.dtype:
    return torch.uint8 if name.endswith("rounding") else torch.float32


@pytest.mark.parametrize("count", [1, 4, 7, 4096])
def test_packed_roundings_come_back(count: int) -> None:
    away = torch.randint(-1, 2, (count,), generator=torch.Generator().manual_seed(count)).float()
    assert torch.equal(unpacked(packed(away), count), away)
    assert len(packed(away)) == -(-count // 4)


def test_calibrations_come_back_from_their_file(tmp_path: Path) -> None:
    path = tmp_path / "calibration.safetensors"
    write_calibrations(path, {None: calibration(), "noise": calibration()})
    found = read_calibrations(path, CONFIG, ("noise",))
    assert found.keys() == {None, "noise"}
    assert all(torch.equal(tensor, calibration().tensors[name]) for name, tensor in found["noise"].tensors.items())


@pytest.mark.parametrize("change", ["missing", "another shape", "surplus", "another expert"])
def test_a_calibration_that_does_not_fit_is_refused(tmp_path: Path, change: str) -> None:
    path = tmp_path / "calibration.safetensors"
    write_calibrations(path, {None: calibration()})
    tensors = read_tensors(path)
    if change == "missing":
        del tensors["general/up.0.step"]
    elif change == "another shape":
        tensors["general/stream.0"] = torch.ones(9)
    elif change == "surplus":
        tensors["general/stream.9"] = torch.ones(9)
    write_tensors(path, tensors)
    with pytest.raises(WeightsError, match="calibration does not fit"):
        read_calibrations(path, CONFIG, ("jpeg",) if change == "another expert" else ())


def test_rounding_keeps_pairs_small_and_products_near() -> None:
    """Rounding for the products errs less than rounding every weight to the nearest code."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(24, 10, 3, 3, generator=draw)
    # Inputs that are alike, as those of neighbouring pixels are.
    inputs = torch.randn(2000, 12, generator=draw) @ torch.randn(12, 90, generator=draw) * 20
    step = steps(weight)
    code = rounded(weight, step, inputs.T @ inputs)
    nearest = nearest_codes(weight, step)
    assert largest_pair(code.to(torch.int8)) <= PAIR
    assert (code - nearest).abs().max() == 1
    exact = inputs @ weight.flatten(1).T

    def error(codes: torch.Tensor) -> float:
        return float((inputs @ (codes * step[:, None, None, None]).flatten(1).T - exact).square().mean())

    assert error(code) < error(nearest) / 4
