"""A refiner as an ONNX file, which other programs run with onnxruntime.

The graph computes what `Refiner.forward` computes in float32 on the photograph alone, without the global colour
correction, which needs statistics of the whole photograph:

    photograph  [B, 3, H, W]   in [0,1], H and W multiples of the stride
    prompt      [1, D]         optional: the embedding of a prompt; the default is the one that was exported
    restored    [B, 3, H, W]   not clipped
"""

import copy
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sanarestore.errors import UsageError
from sanarestore.files import write_atomically
from sanarestore.model.refiner import Refiner
from sanarestore.model.refiner_config import RefinerConfig
from sanarestore.model.statistics import DOWNSAMPLE, LOWEST_POWER, WINDOW, band_weights, hann, mean_around

OPSET = 18
"""Version of ONNX's operators; onnxruntime 1.14 and newer run it."""

AGREEMENT = 1e-4
"""Largest difference from PyTorch's result that an exported file may have."""

SIZES = ((64, 96), (208, 160))
"""Height and width of the images for which a file is compared with PyTorch; the graph is traced at another size."""


class PortableRefiner(Refiner):
    """A refiner whose power spectrum is a convolution, because few programs have Fourier transforms."""

    waves: Tensor
    """Kernels of the coefficients of a window."""
    bands: Tensor
    """Weights that average squared coefficients in each band."""

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__(config)
        # Constants, so that the graph holds them and not how they are computed.
        weights = band_weights(config.spectrum) / hann().square().sum()
        self.register_buffer("waves", _coefficients(), persistent=False)
        self.register_buffer("bands", weights.repeat_interleave(2, dim=0).T[:, :, None, None], persistent=False)

    @classmethod
    def of(cls, refiner: Refiner) -> "PortableRefiner":
        """Copy a refiner, with its weights."""
        portable = cls(refiner.config)
        portable.load_state_dict(refiner.state_dict())
        return portable.float().eval().requires_grad_(False)

    def spectrum(self, degraded_BCHW: Tensor) -> Tensor:
        """The same as `statistics.spectrum`, [B, bands, H/8, W/8]: removing the mean, tapering and transforming a
        window are linear, so that they are one kernel for each coefficient."""
        gray = degraded_BCHW.float().mean(dim=1, keepdim=True) * 255
        margin = (WINDOW - DOWNSAMPLE) // 2
        padded = F.pad(gray, (margin,) * 4, mode="replicate")
        power = F.conv2d(padded, self.waves, stride=DOWNSAMPLE).square()
        octaves: Tensor = torch.log2(mean_around(F.conv2d(power, self.bands), 4) + LOWEST_POWER)
        return octaves / 4 - 0.5


class _Exported(nn.Module):
    """The computation of the file."""

    def __init__(self, refiner: Refiner) -> None:
        super().__init__()
        self.refiner = PortableRefiner.of(refiner)

    def forward(self, photograph: Tensor, prompt: Tensor) -> Tensor:
        """[B,3,H,W] and [1,D] -> [B,3,H,W]."""
        restored: Tensor = self.refiner(photograph, photograph, prompt)
        return restored


def export_refiner(refiner: Refiner, prompt_1D: Tensor, path: Path, about: Mapping[str, str]) -> float:
    """Write a refiner as an ONNX file, and return its largest difference from PyTorch's result.

    `prompt_1D` becomes the default of the input `prompt`. The file's metadata holds `about`, and `stride`, `halo` and
    `margin` in pixels. UsageError if the libraries are missing, RuntimeError if the difference exceeds `AGREEMENT`;
    nothing is written then.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise UsageError(
            f"the library {error.name} is missing", where="--onnx", next_step="pip install 'sanarestore[onnx]'"
        ) from error
    model = _traced(_Exported(refiner), prompt_1D)
    _give_default(model, prompt_1D, onnx)
    figures = {"stride": refiner.stride, "halo": refiner.halo, "margin": refiner.margin}
    onnx.helper.set_model_props(model, {**about, **{name: str(value) for name, value in figures.items()}})
    data = model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns that the prompt may be replaced, as is meant
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    difference = max(_difference(session, refiner, prompt_1D, *size) for size in SIZES)
    if not difference <= AGREEMENT:
        raise RuntimeError(f"the exported graph differs from PyTorch's result by {difference:.1e}")
    with write_atomically(path) as file:
        file.write(data)
    return difference


@torch.no_grad()
def _traced(exported: _Exported, prompt_1D: Tensor) -> Any:
    """The graph, with dynamic batch, height and width."""
    stride: int = exported.refiner.stride
    rows, columns = torch.export.Dim("rows", min=2, max=4096), torch.export.Dim("columns", min=2, max=4096)
    batch = torch.export.Dim("batch", min=1, max=1024)
    example = torch.rand(2, 3, 5 * stride, 7 * stride, generator=torch.Generator().manual_seed(0))
    with _quiet():
        program = torch.onnx.export(
            exported,
            (example, prompt_1D),
            dynamo=True,
            opset_version=OPSET,
            input_names=["photograph", "prompt"],
            output_names=["restored"],
            dynamic_shapes=({0: batch, 2: stride * rows, 3: stride * columns}, None),
            verbose=False,
        )
    assert program is not None
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what torch's exporter says of its own deprecations, and of libraries that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _give_default(model: Any, prompt_1D: Tensor, onnx: Any) -> None:
    """Make the prompt an input with a default: an initializer of the input's name."""
    model.graph.initializer.append(onnx.numpy_helper.from_array(prompt_1D.float().numpy(), "prompt"))


def _difference(session: Any, refiner: Refiner, prompt_1D: Tensor, height: int, width: int) -> float:
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))
    (found,) = session.run(None, {"photograph": image.numpy()})
    with torch.inference_mode():
        expected = copy.deepcopy(refiner).float()(image, image, prompt_1D)
    return float((torch.from_numpy(found) - expected).abs().max())


def _coefficients() -> Tensor:
    """Kernels [32 * 17 * 2, 1, 32, 32]: real and imaginary parts of the coefficients of `rfft2` of a window."""
    place = torch.arange(WINDOW, dtype=torch.float64)
    phase = 2 * math.pi / WINDOW * place[:, None] * place[None]
    down, across = torch.exp(-1j * phase), torch.exp(-1j * phase[: WINDOW // 2 + 1])
    waves = torch.einsum("uy,vx->uvyx", down, across).flatten(0, 1) * hann().double()
    waves = waves - waves.mean(dim=(1, 2), keepdim=True)
    return torch.stack([waves.real, waves.imag], dim=1).flatten(0, 1)[:, None].float()
