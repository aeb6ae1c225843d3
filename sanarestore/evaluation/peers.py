"""Peers, run on the same images in the same benchmark: classical denoisers, and any network in a file.

Non-local means runs at each of `STRENGTHS`, and a report shows the best of them for the set. The other classical
methods derive their strength from an estimate of the noise (Donoho & Johnstone 1994, by scikit-image). All of them need
the extra `bench`; a network needs spandrel.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sanarestore.engine.devices import pick_device
from sanarestore.errors import UsageError, WeightsError
from sanarestore.evaluation.benchmark import Method
from sanarestore.evaluation.tasks import Example
from sanarestore.files import hash_file
from sanarestore.images import Pixels, from_float, to_float

STRENGTHS = (2, 3, 4, 6, 8, 10)
"""Strengths h of non-local means, in 8-bit codes, for brightness and colour alike."""

HALVINGS = 7
"""Bisection steps in the search for the weight of total variation."""


class NonLocalMeans(Method):
    """Non-local means (Buades et al. 2005) by OpenCV, on 8-bit codes, at one strength."""

    best_of = "nlm"
    details = f"best mean PSNR of h {', '.join(map(str, STRENGTHS))} on these images"

    def __init__(self, strength: float) -> None:
        self.name = f"{self.best_of} (h {strength:g})"
        self.settings = _versions(("cv2",))
        self._strength = strength

    def __call__(self, trial: Example, prompt: str | None, seed: int) -> Pixels:
        """Denoise; the prompt is not used."""
        import cv2

        codes_HWC = from_float(trial.degraded_HWC, "uint8")
        if codes_HWC.shape[2] == 1:
            denoised_HWC = cv2.fastNlMeansDenoising(codes_HWC[..., 0], None, h=self._strength)[..., None]
        else:
            bgr_HWC = np.ascontiguousarray(codes_HWC[..., ::-1])
            strength = self._strength
            denoised_HWC = cv2.fastNlMeansDenoisingColored(bgr_HWC, None, h=strength, hColor=strength)[..., ::-1]
        return to_float(denoised_HWC, "uint8")


class Classical(Method):
    """A denoiser that is given an image [H, W, C] in [0, 1] and the estimated standard deviation of its noise."""

    def __init__(self, name: str, version: str, denoise: Callable[[Pixels, float], Pixels]) -> None:
        self.name = name
        self.settings = version
        self._denoise = denoise

    def __call__(self, trial: Example, prompt: str | None, seed: int) -> Pixels:
        """Denoise by the estimated noise; the prompt is not used."""
        from skimage.restoration import estimate_sigma

        noisy = trial.degraded_HWC
        sigma = float(estimate_sigma(noisy, channel_axis=2, average_sigmas=True))
        if not sigma > 0:  # flat, or too small for an estimate
            return noisy
        return np.asarray(self._denoise(noisy, sigma), np.float32).reshape(noisy.shape)


def _wavelet(noisy_HWC: Pixels, sigma: float) -> Pixels:
    """Denoise each channel separately by BayesShrink (Chang et al. 2000)."""
    from skimage.restoration import denoise_wavelet

    planes = [denoise_wavelet(plane, sigma=sigma, method="BayesShrink") for plane in np.moveaxis(noisy_HWC, 2, 0)]
    return np.stack(planes, axis=2)


def _total_variation(noisy_HWC: Pixels, sigma: float) -> Pixels:
    """Total variation (Rudin et al. 1992) by Chambolle's algorithm; what its weight removes has deviation `sigma`."""
    from skimage.restoration import denoise_tv_chambolle

    low, high = 0.0, 8 * sigma
    for _ in range(HALVINGS):
        weight = (low + high) / 2
        denoised: Pixels = denoise_tv_chambolle(noisy_HWC, weight=weight, channel_axis=2)
        taken = float(np.std(noisy_HWC - denoised))
        low, high = (weight, high) if taken < sigma else (low, weight)
    return denoised


ESTIMATING: dict[str, Callable[[Pixels, float], Pixels]] = {"wavelet": _wavelet, "tv": _total_variation}
"""Name -> a function that denoises an image of the given noise."""

CLASSICAL: dict[str, tuple[str, ...]] = {"nlm": ("cv2",), "wavelet": ("skimage", "pywt"), "tv": ("skimage", "pywt")}
"""Name of a classical method -> the modules that it needs."""


class Network(Method):
    """A restoration network that spandrel loads from a file; its results have the size of its inputs."""

    def __init__(self, path: Path, device: str) -> None:
        if importlib.util.find_spec("spandrel") is None:
            raise UsageError("needs spandrel", where="--peer", next_step="pip install spandrel")
        from spandrel import ImageModelDescriptor, ModelLoader

        self.name = path.stem
        try:
            self.settings = hash_file(path)[:16]
            found: Any = ModelLoader(device="cpu").load_from_file(path)
        except Exception as error:  # spandrel raises many kinds; to the user they are one fact
            raise WeightsError(f"no network that can be loaded ({error})", where=path) from error
        if not isinstance(found, ImageModelDescriptor) or found.scale != 1:
            raise WeightsError("its results are not of the size of its inputs", where=path)
        self.device = pick_device(device)
        self._channels = found.input_channels
        self._model = found.to(self.device).eval()
        self.parameters = sum(parameter.numel() for parameter in found.model.parameters())

    @torch.inference_mode()
    def __call__(self, trial: Example, prompt: str | None, seed: int) -> Pixels:
        """Restore; the prompt is not used. Colour networks get gray three times, gray networks each channel alone."""
        degraded_1CHW = torch.from_numpy(trial.degraded_HWC).permute(2, 0, 1)[None].to(self.device)
        channels = degraded_1CHW.shape[1]
        if self._channels == 3 and channels == 1:
            degraded_1CHW = degraded_1CHW.expand(-1, 3, -1, -1)
        if self._channels == 1 and channels == 3:
            degraded_1CHW = degraded_1CHW.transpose(0, 1)
        restored = self._model(degraded_1CHW)
        if self._channels == 1 and channels == 3:
            restored = restored.transpose(0, 1)
        if self._channels == 3 and channels == 1:
            restored = restored.mean(dim=1, keepdim=True)
        result: Pixels = np.ascontiguousarray(restored[0].permute(1, 2, 0).float().cpu().numpy())
        return result


def peer(name: str, device: str) -> list[Method]:
    """Make the methods that a peer's name stands for: a classical one, at each of its strengths, or a network's file.

    UsageError if it is neither, or if a package that it needs is not installed.
    """
    if name in CLASSICAL:
        modules = CLASSICAL[name]
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        if missing:
            raise UsageError(
                f"'{name}' needs {missing[0]}", where="--peer", next_step="pip install 'sanarestore[bench]'"
            )
        if name == NonLocalMeans.best_of:
            return [NonLocalMeans(strength) for strength in STRENGTHS]
        return [Classical(name, _versions(modules), ESTIMATING[name])]
    path = Path(name)
    if not path.is_file():
        raise UsageError(
            f"'{name}' is neither a file nor a known method", where="--peer",
            next_step=f"Known: {', '.join(CLASSICAL)}.",
        )  # fmt: skip
    return [Network(path, device)]


def _versions(modules: tuple[str, ...]) -> str:
    return ",".join(f"{name} {importlib.import_module(name).__version__}" for name in modules)
