"""Blocks taken apart for the kernels are what diffusers' own forward gives, and stay whole where they must."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sanarestore.model import blocks
from sanarestore.model.blocks import across_heads, gated_feed, residual_block, run_blocks
from tests.kernels.guards import needs_kernels, some
from tests.published import tiny_autoencoder


@pytest.fixture
def taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if kernels fitted: the parts then are the references."""
    monkeypatch.setattr(blocks, "choice", SimpleNamespace(fits=lambda *tensors: True))


def a_residual_block(**changes: Any) -> Any:
    from diffusers.models.autoencoders.autoencoder_dc import ResBlock

    torch.manual_seed(0)
    return _spoken(ResBlock(8, 8, **{"norm_type": "rms_norm", "act_fn": "silu", **changes}))


def a_feed_forward(**changes: Any) -> Any:
    from diffusers.models.transformers.sana_transformer import GLUMBConv

    torch.manual_seed(0)
    return _spoken(GLUMBConv(8, 8, **{"expand_ratio": 2.5, "residual_connection": False, **changes}))


def _spoken(block: Any) -> Any:
    """With norms that do something."""
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return block.eval().requires_grad_(False)


def test_on_a_cpu_they_are_left_alone() -> None:
    residual, feed = a_residual_block(), a_feed_forward()
    map_BCHW = some(2, 8, 5, 7, seed=0)
    assert torch.equal(residual_block(residual, map_BCHW), residual(map_BCHW))
    features_BHWD = map_BCHW.permute(0, 2, 3, 1).contiguous()
    assert torch.equal(gated_feed(feed, features_BHWD).permute(0, 3, 1, 2), feed(features_BHWD.permute(0, 3, 1, 2)))


@pytest.mark.usefixtures("taken_apart")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_residual_block_taken_apart(dtype: torch.dtype) -> None:
    block, map_BCHW = a_residual_block().to(dtype), some(2, 8, 5, 7, seed=0).to(dtype)
    found = residual_block(block, map_BCHW)
    assert found.dtype == dtype
    assert torch.allclose(found, block(map_BCHW), atol=1e-6 if dtype == torch.float32 else 0.05)


@pytest.mark.usefixtures("taken_apart")
@pytest.mark.parametrize("changes", [{}, {"norm_type": "rms_norm", "residual_connection": True}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_feed_forward_taken_apart(changes: dict[str, Any], dtype: torch.dtype) -> None:
    block, map_BCHW = a_feed_forward(**changes).to(dtype), some(2, 8, 5, 7, seed=0).to(dtype)
    found = gated_feed(block, map_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    assert found.dtype == dtype
    assert torch.allclose(found, block(map_BCHW), atol=1e-6 if dtype == torch.float32 else 0.05)


@pytest.mark.usefixtures("taken_apart")
def test_what_is_hooked_on_is_not_passed_by() -> None:
    """As training hooks low-rank changes onto convolutions."""
    residual, feed = a_residual_block(), a_feed_forward()
    for layer in (residual.conv1, feed.conv_inverted):
        layer.register_forward_hook(lambda _layer, _given, result: result + 1)
    map_BCHW = some(1, 8, 5, 7, seed=0)
    assert torch.equal(residual_block(residual, map_BCHW), residual(map_BCHW))
    assert torch.equal(gated_feed(feed, map_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), feed(map_BCHW))


@pytest.mark.usefixtures("taken_apart")
@pytest.mark.parametrize("changes", [{"act_fn": "relu"}, {"norm_type": "batch_norm"}])
def test_another_kind_of_block_is_left_alone(changes: dict[str, Any]) -> None:
    block, map_BCHW = a_residual_block(**changes), some(1, 8, 5, 7, seed=0)
    assert torch.equal(residual_block(block, map_BCHW), block(map_BCHW))


@pytest.mark.usefixtures("taken_apart")
def test_every_residual_block_of_an_autoencoder_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    met: list[Any] = []

    def residual_block(block: Any, given_BCHW: Tensor) -> Tensor:
        met.append(block)
        result: Tensor = block(given_BCHW)
        return result

    monkeypatch.setattr(blocks, "residual_block", residual_block)
    encoder = tiny_autoencoder().encoder
    map_BCHW = some(1, 8, 32, 32, seed=0)
    assert torch.equal(run_blocks(encoder.down_blocks, map_BCHW), nn.Sequential(*encoder.down_blocks)(map_BCHW))
    assert met == [block for block in encoder.modules() if type(block).__name__ == "ResBlock"]


def test_norms_that_the_kernels_take() -> None:
    from diffusers.models.normalization import RMSNorm

    norm = across_heads(RMSNorm(8, eps=1e-5))
    assert norm is not None
    assert norm.epsilon == 1e-5
    for other in (None, nn.LayerNorm(8), nn.RMSNorm(8), RMSNorm(8, eps=1e-5, bias=True)):
        assert across_heads(other) is None
    hooked = RMSNorm(8, eps=1e-5)
    hooked.register_forward_hook(lambda *_: None)
    assert across_heads(hooked) is None


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_gpu_they_are_diffusers_up_to_rounding(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    residual, feed = (block.cuda().to(dtype) for block in (a_residual_block(), a_feed_forward()))
    map_BCHW = some(2, 8, 15, 17, seed=0).cuda().to(dtype)
    near = 1e-5 if dtype == torch.float32 else 0.05
    assert torch.allclose(residual_block(residual, map_BCHW), residual(map_BCHW), atol=near)
    found = gated_feed(feed, map_BCHW.permute(0, 2, 3, 1).contiguous()).permute(0, 3, 1, 2)
    assert torch.allclose(found, feed(map_BCHW), atol=near)
