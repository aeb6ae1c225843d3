"""Tests of random models in the published sizes."""

import pytest
import torch

from sanarestore import images
from sanarestore.engine.restorer import Restorer
from sanarestore.errors import UsageError
from sanarestore.evaluation.speed import random_models
from sanarestore.evaluation.speed.random_models import CHECKPOINTS, DC_AE, PROMPT, Checkpoint, random_model
from sanarestore.model.condition import KINDS, ConditionKind
from sanarestore.options import RestoreOptions
from tests.conftest import photo

TINY = Checkpoint(
    changes={
        "num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "num_cross_attention_heads": 2,
        "cross_attention_head_dim": 8, "cross_attention_dim": 16, "caption_channels": 16, "sample_size": 8,
    },
    parameters=0,
)  # fmt: skip


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_transformers_have_the_published_number_of_parameters(name: str) -> None:
    from diffusers import SanaTransformer2DModel

    with torch.device("meta"):
        transformer = SanaTransformer2DModel(**CHECKPOINTS[name].changes)
    assert sum(parameter.numel() for parameter in transformer.parameters()) == CHECKPOINTS[name].parameters


def test_the_autoencoder_has_the_published_number_of_parameters() -> None:
    from diffusers import AutoencoderDC

    with torch.device("meta"):
        dc = AutoencoderDC(**DC_AE)
    counts = [sum(parameter.numel() for parameter in half.parameters()) for half in (dc.encoder, dc.decoder)]
    assert counts == [153_027_104, 159_223_171]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register a checkpoint `tiny` with a narrow autoencoder."""
    widths = {"encoder_block_out_channels": [32] * 6, "decoder_block_out_channels": [32] * 6, "attention_head_dim": 4}
    layers = {"encoder_layers_per_block": [1] * 6, "decoder_layers_per_block": [1] * 6}
    monkeypatch.setitem(random_models.CHECKPOINTS, "tiny", TINY)
    monkeypatch.setattr(random_models, "DC_AE", {**DC_AE, **widths, **layers})


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("kind", KINDS)
def test_a_random_model_runs_in_the_engine_and_is_repeatable(kind: ConditionKind) -> None:
    model = random_model("random:tiny", condition=kind)
    image = images.Image(pixels_HWC=photo(48, 64), depth="float32", format="tiff")
    options = RestoreOptions(steps=2)
    first, second = (
        Restorer(options, device="cpu", model=random_model("tiny", condition=kind))(image) for _ in range(2)
    )
    assert (first.pixels_HWC == second.pixels_HWC).all(), "the seed decides the result"
    assert abs(first.pixels_HWC - image.pixels_HWC).max() > 0.01
    assert abs(first.pixels_HWC).max() < 1e3
    assert model.latent is not None
    assert model.latent.transformer.condition.kind == kind
    with pytest.raises(UsageError, match=f"knows one prompt, '{PROMPT}'"):
        Restorer(RestoreOptions(prompt="deblur"), device="cpu", model=model)


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(UsageError, match=r"not a published size.*SANA1.5_1.6B_1024px"):
        random_model("random:SANA9")
