"""Tests of an autoencoder that replaces the base's: narrow random ones in the published layouts."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sanarestore import images, weights
from sanarestore.engine.restorer import Restorer
from sanarestore.errors import UsageError, WeightsError
from sanarestore.model.adapter import write_adapter
from sanarestore.model.base import load_base
from sanarestore.model.loading import load_model
from sanarestore.model.prompts import PromptEncoder
from sanarestore.options import RestoreOptions
from tests.conftest import photo, random_refiner
from tests.published import latent_path, tiny_autoencoder, write_adapted, write_published

LITE: dict[str, Any] = {
    "decoder_block_types": ["ResBlock"] * 6, "decoder_block_out_channels": [4, 4, 8, 8, 8, 8],
    "decoder_layers_per_block": [0, 1, 1, 1, 1, 1],
}  # fmt: skip
"""A lighter decoder of another shape beside the same encoder, as in DC-AE Lite."""


def written(folder: Path, *, seed: int = 5, **changes: Any) -> str:
    tiny_autoencoder(seed=seed, **changes).save_pretrained(folder)
    return str(folder)


def image() -> images.Image:
    return images.Image(pixels_HWC=photo(70, 90), depth="float32", format="tiff")


def restored(**chosen: Any) -> np.ndarray[Any, Any]:
    return Restorer(RestoreOptions(**chosen), device="cpu")(image()).pixels_HWC


@pytest.fixture
def adapter(tmp_path: Path, encoder: PromptEncoder) -> str:
    write_adapted(tmp_path, encoder)
    return str(tmp_path / "adapter")


@pytest.mark.parametrize("changes", [{}, LITE, {"downsample_block_type": "pixel_unshuffle"}])
def test_another_version_replaces_the_autoencoder_of_a_base(
    changes: dict[str, Any], tmp_path: Path, encoder: PromptEncoder
) -> None:
    base = str(write_published(tmp_path / "base", encoder))
    other = written(tmp_path / "other", **changes)
    found, own = load_base(base, autoencoder=other).autoencoder, load_base(base).autoencoder
    theirs = tiny_autoencoder(seed=5, **changes)
    image_BCHW = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        latent = found.encode(image_BCHW)
        wanted = theirs.encode(image_BCHW * 2 - 1).latent
        assert torch.allclose(latent, wanted * theirs.config.scaling_factor, atol=1e-5)
        assert torch.allclose(found.decode(latent), theirs.decode(wanted).sample / 2 + 0.5, atol=1e-5)
        assert not torch.allclose(found.decode(latent), own.decode(latent), atol=1e-3)


def test_an_autoencoder_of_a_pipeline_is_found_in_it(tmp_path: Path, encoder: PromptEncoder) -> None:
    base = str(write_published(tmp_path / "base", encoder))
    written(tmp_path / "pipeline/vae")
    one, other = (load_base(base, autoencoder=str(tmp_path / name)) for name in ("pipeline", "pipeline/vae"))
    assert torch.equal(one.autoencoder.decoder.conv_out.weight, other.autoencoder.decoder.conv_out.weight)


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"latent_channels": 16}, "16 channels, and those of the base 8"),
        ({"scaling_factor": 0.3189}, "0.3189 as scaling factor, and those of the base 0.41407"),
        (
            {
                key: value
                for half in ("encoder", "decoder")
                for key, value in {
                    f"{half}_block_types": ["ResBlock"] * 3 + ["EfficientViTBlock"] * 4,
                    f"{half}_block_out_channels": [8] * 7,
                    f"{half}_layers_per_block": [1] * 7,
                    f"{half}_qkv_multiscales": [[]] * 3 + [[5]] * 4,
                }.items()
            },
            "64 pixels a side when encoded, and those of the base 32",
        ),
    ],
)
def test_other_latents_are_refused(changes: dict[str, Any], fact: str, tmp_path: Path, encoder: PromptEncoder) -> None:
    base = str(write_published(tmp_path / "base", encoder))
    other = written(tmp_path / "other", **changes)
    with pytest.raises(WeightsError, match=fact) as refused:
        load_base(base, autoencoder=other)
    assert refused.value.where == other


def test_what_is_no_autoencoder_of_this_kind_is_refused(tmp_path: Path, encoder: PromptEncoder) -> None:
    base = str(write_published(tmp_path / "base", encoder))
    other = Path(written(tmp_path / "other"))
    (other / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(WeightsError, match="cannot be loaded"):
        load_base(base, autoencoder=str(other))
    config = other / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "_class_name": "AutoencoderKL"}))
    with pytest.raises(WeightsError, match="it holds AutoencoderKL, not an AutoencoderDC"):
        load_base(base, autoencoder=str(other))
    config.write_text(json.dumps({"_class_name": "AutoencoderDC"}))
    with pytest.raises(WeightsError, match="not that of a DC-AE"):
        load_base(base, autoencoder=str(other))
    config.unlink()
    with pytest.raises(WeightsError, match="the file is missing"):
        load_base(base, autoencoder=str(other))


def test_weights_that_do_not_fit_the_configuration_are_refused(tmp_path: Path, encoder: PromptEncoder) -> None:
    base = str(write_published(tmp_path / "base", encoder))
    other = Path(written(tmp_path / "other"))
    shutil.copy(Path(written(tmp_path / "lite", **LITE)) / "config.json", other / "config.json")
    with pytest.raises(WeightsError):
        load_base(base, autoencoder=str(other))


def test_the_base_s_own_autoencoder_in_another_folder_changes_nothing(adapter: str, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(tmp_path / "base/vae", copied)
    assert np.array_equal(restored(adapter=adapter), restored(adapter=adapter, autoencoder=str(copied)))
    assert not np.array_equal(
        restored(adapter=adapter), restored(adapter=adapter, autoencoder=written(tmp_path / "other"))
    )


def test_the_embedded_model_s_own_autoencoder_in_another_folder_changes_nothing(tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(weights.resolve(weights.EMBEDDED) / "vae", copied)
    assert np.array_equal(restored(fidelity=0), restored(fidelity=0, autoencoder=str(copied)))


def test_it_is_refused_where_no_latent_path_runs(tmp_path: Path, tiny_folder: Path) -> None:
    for chosen in ({}, {"model": str(tiny_folder), "fidelity": 0}):
        with pytest.raises(UsageError) as refused:
            restored(autoencoder=str(weights.resolve(weights.EMBEDDED) / "vae"), **chosen)
        assert refused.value.where == "--autoencoder"


def test_the_fingerprint_of_the_weights_includes_it(adapter: str, tmp_path: Path) -> None:
    base, other = str(tmp_path / "base"), written(tmp_path / "other")
    plain, swapped = weights.fingerprint(base, adapter), weights.fingerprint(base, adapter, other)
    assert plain != swapped
    assert load_model(base, adapter, autoencoder=other).fingerprint == swapped
    moved = shutil.move(other, tmp_path / "moved")
    (Path(moved) / "README.md").write_text("a card")
    assert weights.fingerprint(base, adapter, str(moved)) == swapped, "only its content counts"
    written(tmp_path / "moved", seed=6)
    assert weights.fingerprint(base, adapter, str(moved)) != swapped


@pytest.fixture
def recording(tmp_path: Path, encoder: PromptEncoder, adapter: str) -> str:
    """An adapter that was trained with another autoencoder, `trained` beside it."""
    write_adapter(
        tmp_path / "recording", base=str(tmp_path / "base"), refiner=random_refiner(),
        condition=latent_path(prompt_width=encoder.width).transformer.condition,
        prompts=encoder.table(["remove noise"]), defaults={"prompt": "remove noise", "steps": 2}, training={},
        autoencoder=written(tmp_path / "trained"),
    )  # fmt: skip
    return str(tmp_path / "recording")


def test_an_adapter_brings_the_autoencoder_that_it_was_trained_with(
    adapter: str, recording: str, tmp_path: Path
) -> None:
    trained = str(tmp_path / "trained")
    assert weights.chosen_autoencoder(None, recording) == trained
    assert weights.chosen_autoencoder("mine", recording) == "mine"
    assert weights.chosen_autoencoder(None, adapter) is None
    wanted = restored(adapter=adapter, autoencoder=trained)
    assert np.array_equal(restored(adapter=recording), wanted)
    restorer = Restorer(RestoreOptions(adapter=recording, autoencoder=trained), device="cpu")
    assert restorer.prompt_note is None
    assert restorer.model.fingerprint == load_model(None, recording, autoencoder=trained).fingerprint


@pytest.mark.parametrize(("name", "own"), [("recording", "the autoencoder"), ("adapter", "its base's own")])
def test_another_autoencoder_than_the_adapter_s_is_noted(name: str, own: str, recording: str, tmp_path: Path) -> None:
    options = RestoreOptions(adapter=str(tmp_path / name), autoencoder=written(tmp_path / "other", seed=6))
    note = Restorer(options, device="cpu").prompt_note
    assert note is not None
    assert note.startswith(f"the adapter was trained with {own}")


def test_an_adapter_s_autoencoder_that_has_changed_is_refused(recording: str, tmp_path: Path) -> None:
    written(tmp_path / "trained", seed=9)
    with pytest.raises(WeightsError, match="other weights than these of the autoencoder"):
        load_model(adapter=recording)
    load_model(adapter=recording, autoencoder=str(tmp_path / "trained"))
