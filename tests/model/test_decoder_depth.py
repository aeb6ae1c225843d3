"""Decoders with fewer blocks: those without effect go without a change, and files hold the rest as published."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sanarestore import weights
from sanarestore.errors import WeightsError
from sanarestore.model.autoencoder import Autoencoder
from sanarestore.model.base import load_autoencoder
from sanarestore.model.decoder_depth import decoder_blocks, least_important_blocks, removable, without_blocks
from sanarestore.model.decoder_files import write_changed
from sanarestore.model.tensors import write_json
from tests.published import CHANNELS, tiny_autoencoder

LAYERS = (2, 3, 1, 2, 1, 2)
"""Blocks of the stages, the finest first."""


def narrow(*, layers: tuple[int, ...] = LAYERS, **changes: Any) -> Autoencoder:
    """A random autoencoder of the published topology whose decoder has these layers."""
    dc = tiny_autoencoder(decoder_layers_per_block=list(layers), **changes)
    with torch.no_grad():
        for number, parameter in enumerate(dc.decoder.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    # One layout of memory for all maps, as in training: rounding depends on it.
    dc.to(memory_format=torch.channels_last)
    return Autoencoder(dc).eval().requires_grad_(False)


def silenced(block: nn.Module) -> None:
    """Make a block pass its input on: the norm at the end of each of its branches becomes zero."""
    ends = [block.norm] if hasattr(block, "norm") else [block.attn.norm_out, block.conv_out.norm]  # type: ignore[union-attr]
    for end in ends:
        for parameter in end.parameters():  # type: ignore[union-attr]
            parameter.zero_()


@torch.no_grad()
def decoded(autoencoder: Autoencoder, side: int = 2) -> Tensor:
    return autoencoder.decode(torch.randn(1, CHANNELS, side, side, generator=torch.Generator().manual_seed(5)))


def test_blocks_are_numbered_in_the_order_in_which_they_run() -> None:
    autoencoder = narrow()
    blocks, order = decoder_blocks(autoencoder.decoder), []
    for number, block in enumerate(blocks):
        block.module.register_forward_hook(lambda *_, number=number: order.append(number))
    decoded(autoencoder)
    assert order == list(range(sum(LAYERS))) == list(range(len(blocks)))
    # The coarsest stage has no enlarging layer in front of its blocks.
    assert blocks[0].name == "up_blocks.5.0 EfficientViTBlock"
    assert blocks[-1].name == "up_blocks.0.2 ResBlock"


@pytest.mark.parametrize("numbers", [(0,), (0, 1), (3,), (4, 6), (1, 3, 6, 7, 10)])
@pytest.mark.parametrize("upsample", ["interpolate", "pixel_shuffle"])
def test_removing_blocks_without_effect_changes_nothing_at_all(numbers: tuple[int, ...], upsample: str) -> None:
    autoencoder = narrow(upsample_block_type=upsample)
    blocks = decoder_blocks(autoencoder.decoder)
    other = decoded(autoencoder)
    for number in numbers:
        silenced(blocks[number].module)
    expected, config = decoded(autoencoder), dict(autoencoder.config)
    assert not torch.equal(other, expected)
    smaller = without_blocks(autoencoder, numbers)
    assert torch.equal(decoded(smaller), expected)
    assert len(decoder_blocks(smaller.decoder)) == len(blocks) - len(numbers)
    assert len(decoder_blocks(autoencoder.decoder)) == len(blocks), "the given one stays as it is"
    assert dict(autoencoder.config) == config
    assert smaller.encoder is autoencoder.encoder


def test_the_smaller_decoder_is_a_published_configuration(tmp_path: Path) -> None:
    autoencoder = narrow()
    smaller = without_blocks(autoencoder, (0, 1, 3, 7, 10))
    assert list(smaller.config.decoder_layers_per_block) == [1, 2, 1, 1, 1, 0]
    fewer = without_blocks(autoencoder, (6, 7, 9))
    assert fewer.decoder_radius < autoencoder.decoder_radius, "three residual blocks fewer at the finest resolutions"
    folder = write_alone(tmp_path, smaller)
    assert json.loads((folder / "config.json").read_text())["decoder_layers_per_block"] == [1, 2, 1, 1, 1, 0]
    found = load_autoencoder(folder)
    assert torch.allclose(decoded(found), decoded(smaller), atol=2e-3), "weights are stored in float16"


def test_layers_that_were_defaults_are_stored_too(tmp_path: Path) -> None:
    """diffusers leaves out fields that it lists as defaults, whatever their values in the file are."""
    from diffusers import AutoencoderDC

    config = {key: each for key, each in tiny_autoencoder().config.items() if not key.startswith("_")}
    del config["decoder_layers_per_block"]
    autoencoder = Autoencoder(AutoencoderDC(**config)).eval()  # type: ignore[no-untyped-call]
    assert "decoder_layers_per_block" in autoencoder.config["_use_default_values"]
    smaller = without_blocks(autoencoder, (4,))
    assert len(decoder_blocks(load_autoencoder(write_alone(tmp_path, smaller)).decoder)) == 17


def test_the_encoder_is_stored_exactly(tmp_path: Path) -> None:
    autoencoder = narrow()
    found = load_autoencoder(write_alone(tmp_path, without_blocks(autoencoder, (4,))))
    stored = found.encoder.state_dict()
    assert all(torch.equal(stored[name], each) for name, each in autoencoder.encoder.state_dict().items())
    autoencoder.encoder.half().float()
    write_alone(tmp_path / "half", without_blocks(autoencoder, (4,)))
    file = "autoencoder/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "half" / file).stat().st_size < (tmp_path / file).stat().st_size


def test_a_configuration_of_another_depth_is_refused(tmp_path: Path) -> None:
    folder = write_alone(tmp_path, without_blocks(narrow(), (4,)))
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", {**config, "decoder_layers_per_block": list(LAYERS)})
    with pytest.raises(WeightsError, match="missing keys"):
        load_autoencoder(folder)


def test_the_least_important_blocks_are_removed_unless_a_stage_would_lose_its_enlarging_layer() -> None:
    decoder = narrow().decoder
    # Stages in the order in which they run: 0 1 | 2 | 3 4 | 5 | 6 7 8 | 9 10.
    assert removable(decoder) == 6
    rising = [float(number) for number in range(11)]
    assert least_important_blocks(decoder, rising, 3) == (0, 1, 3)
    assert least_important_blocks(decoder, rising[::-1], 3) == (7, 8, 10)
    assert least_important_blocks(decoder, [0.5] * 11, 2) == (8, 10), "of equal ones, the later go first"
    assert least_important_blocks(decoder, rising, 6) == (0, 1, 3, 6, 7, 9)
    for count in (0, 7):
        with pytest.raises(ValueError, match="blocks cannot be removed"):
            least_important_blocks(decoder, rising, count)


@pytest.mark.parametrize("numbers", [(2,), (3, 4), (9, 10), (11,), (-1,)])
def test_blocks_that_hold_a_stage_together_and_unknown_ones_are_refused(numbers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cannot be removed from a decoder of 11"):
        without_blocks(narrow(), numbers)


def write_alone(folder: Path, autoencoder: Autoencoder) -> Path:
    """Write an autoencoder that belongs to no model or adapter."""
    source = folder / "source"
    source.mkdir(parents=True)
    write_changed(folder / "autoencoder", str(source), autoencoder, name="smaller", training={"stages": []})
    assert weights.is_autoencoder(folder / "autoencoder")
    return folder / "autoencoder"
