"""Tests of the measured methods: our model as `restore` runs it, and the reconstruction of its autoencoder."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sanarestore import images
from sanarestore.engine.restorer import Restorer
from sanarestore.evaluation.methods import SEEDS, AutoencoderReconstruction, count, our_methods
from sanarestore.evaluation.metrics import psnr
from sanarestore.evaluation.tasks import Example
from sanarestore.model.autoencoder import Autoencoder
from sanarestore.model.loading import save_model
from sanarestore.model.prompts import PromptEncoder
from sanarestore.options import RestoreOptions
from tests.conftest import photo, random_refiner, worded
from tests.published import latent_path, tiny_autoencoder


def test_our_method_is_the_engine_with_the_given_prompt(tiny_folder: Path) -> None:
    options = RestoreOptions(model=str(tiny_folder))
    (ours,) = our_methods(options, (0,), (), "cpu")
    noisy = photo(40, 50) + np.float32(0.1)
    trial = Example(degraded_HWC=noisy, target_HWC=photo(40, 50))
    image = images.Image(pixels_HWC=noisy, depth="float32", format="tiff")
    for prompt in (None, "remove the noise"):
        expected = Restorer(RestoreOptions(model=str(tiny_folder), prompt=prompt), device="cpu")(image)
        assert np.array_equal(ours(trial, prompt, 0), expected.pixels_HWC)
    assert not np.array_equal(ours(trial, None, 0), ours(trial, "remove the noise", 0))
    assert ours.name == "tiny"
    other = our_methods(RestoreOptions(model=str(tiny_folder), prompt="x"), (0, 1), (), "cpu")[0]
    assert other.settings != ours.settings
    assert tuple(other.seeds) == (0, 1)


@pytest.mark.parametrize("size", [(64, 96), (33, 70), (1, 5)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_reconstruction_is_that_of_the_autoencoder(tmp_path: Path, size: tuple[int, int], channels: int) -> None:
    tiny_autoencoder().save_pretrained(tmp_path / "vae")
    autoencoder = Autoencoder(tiny_autoencoder()).eval()
    clean = photo(*size)[..., :channels]
    found = AutoencoderReconstruction(tmp_path / "vae", "cpu")(
        Example(degraded_HWC=clean * 0, target_HWC=clean), None, 0
    )
    assert found.shape == clean.shape
    if size == (64, 96) and channels == 3:
        with torch.no_grad():
            expected = autoencoder.decode(autoencoder.encode(torch.from_numpy(clean).permute(2, 0, 1)[None]))
        assert np.allclose(found, expected[0].permute(1, 2, 0).numpy(), atol=1e-5)
        assert np.isfinite(psnr(found, clean))


def test_parameters_count_only_the_networks_that_run(tmp_path: Path, encoder: PromptEncoder) -> None:
    refiner, path = random_refiner(), latent_path(prompt_width=8)
    save_model(
        tmp_path / "whole", name="whole", refiner=refiner, **worded(encoder),
        defaults={"prompt": "remove noise", "latent": False}, training={}, latent=path,
    )  # fmt: skip
    at_1, at_half = (
        our_methods(RestoreOptions(model=str(tmp_path / "whole"), fidelity=fidelity), (0,), (), "cpu")
        for fidelity in (1.0, 0.5)
    )
    assert [each.parameters for each in at_1] == [count(refiner)]
    assert at_half[-1].parameters == count(refiner, path.autoencoder, path.transformer)
    assert at_half[0].name == "autoencoder reconstruction"
    assert at_half[0].parameters == count(path.autoencoder)


@pytest.mark.parametrize(
    ("fidelity", "steps", "count"), [(1.0, None, 1), (0.5, 1, 1), (0.5, None, SEEDS), (0.5, 2, SEEDS)]
)
def test_several_seeds_are_measured_only_if_they_change_the_result(
    tmp_path: Path, encoder: PromptEncoder, fidelity: float, steps: int | None, count: int
) -> None:
    """The model takes four steps; at fidelity 1 it uses only its refiner."""
    save_model(
        tmp_path / "whole", name="whole", refiner=random_refiner(), **worded(encoder),
        defaults={"prompt": "remove noise", "latent": False, "steps": 4}, training={},
        latent=latent_path(prompt_width=8),
    )  # fmt: skip
    options = RestoreOptions(model=str(tmp_path / "whole"), fidelity=fidelity, steps=steps)
    assert len(our_methods(options, None, (), "cpu")[-1].seeds) == count
    assert our_methods(options, (7,), (), "cpu")[-1].seeds == (7,)
