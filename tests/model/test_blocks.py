"""Blocks decomposed for the kernels match diffusers' forward, and run unchanged where kernels do not apply."""

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
def decomposed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that kernels fit, so that blocks run as the reference parts."""
    monkeypatch.setattr(blocks, "choice", SimpleNamespace(fits=lambda *tensors: True))


def a_residual_block(**changes: Any) -> Any:
    from diffusers.models.autoencoders.autoencoder_dc import ResBlock

    torch.manual_seed(0)
    return _randomised(ResBlock(8, 8, **{"norm_type": "rms_norm", "act_fn": "silu", **changes}))


def a_feed_forward(**changes: Any) -> Any:
    from diffusers.models.transformers.sana_transformer import GLUMBConv

    torch.manual_seed(0)
    return _randomised(GLUMBConv(8, 8, **{"expand_ratio": 2.5, "residual_connection": False, **changes}))


def _randomised(block: Any) -> Any:
    """Add noise to all parameters, so that norms have an effect."""
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return block.eval().requires_grad_(False)


def test_blocks_on_a_cpu_run_diffusers_own_forward() -> None:
    residual, feed = a_residual_block(), a_feed_forward()
    map_BCHW = some(2, 8, 5, 7, seed=0)
    assert torch.equal(residual_block(residual, map_BCHW), residual(map_BCHW))
    features_BHWD = map_BCHW.permute(0, 2, 3, 1).contiguous()
    assert torch.equal(gated_feed(feed, features_BHWD).permute(0, 3, 1, 2), feed(features_BHWD.permute(0, 3, 1, 2)))


@pytest.mark.usefixtures("decomposed")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_decomposed_residual_block_matches_diffusers(dtype: torch.dtype) -> None:
    block, map_BCHW = a_residual_block().to(dtype), some(2, 8, 5, 7, seed=0).to(dtype)
    found = residual_block(block, map_BCHW)
    assert found.dtype == dtype
    assert torch.allclose(found, block(map_BCHW), atol=1e-6 if dtype == torch.float32 else 0.05)


@pytest.mark.usefixtures("decomposed")
@pytest.mark.parametrize("changes", [{}, {"norm_type": "rms_norm", "residual_connection": True}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_decomposed_feed_forward_matches_diffusers(changes: dict[str, Any], dtype: torch.dtype) -> None:
    block, map_BCHW = a_feed_forward(**changes).to(dtype), some(2, 8, 5, 7, seed=0).to(dtype)
    found = gated_feed(block, map_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    assert found.dtype == dtype
    assert torch.allclose(found, block(map_BCHW), atol=1e-6 if dtype == torch.float32 else 0.05)


@pytest.mark.usefixtures("decomposed")
def test_forward_hooks_of_layers_still_run() -> None:
    """Training attaches low-rank changes to convolutions as hooks."""
    residual, feed = a_residual_block(), a_feed_forward()
    for layer in (residual.conv1, feed.conv_inverted):
        layer.register_forward_hook(lambda _layer, _given, result: result + 1)
    map_BCHW = some(1, 8, 5, 7, seed=0)
    assert torch.equal(residual_block(residual, map_BCHW), residual(map_BCHW))
    assert torch.equal(gated_feed(feed, map_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), feed(map_BCHW))


@pytest.mark.usefixtures("decomposed")
@pytest.mark.parametrize("changes", [{"act_fn": "relu"}, {"norm_type": "batch_norm"}])
def test_an_unsupported_block_runs_diffusers_own_forward(changes: dict[str, Any]) -> None:
    block, map_BCHW = a_residual_block(**changes), some(1, 8, 5, 7, seed=0)
    assert torch.equal(residual_block(block, map_BCHW), block(map_BCHW))


@pytest.mark.usefixtures("decomposed")
def test_every_residual_block_of_an_encoder_is_decomposed(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks_seen: list[Any] = []

    def residual_block(block: Any, given_BCHW: Tensor) -> Tensor:
        blocks_seen.append(block)
        result: Tensor = block(given_BCHW)
        return result

    monkeypatch.setattr(blocks, "residual_block", residual_block)
    encoder = tiny_autoencoder().encoder
    map_BCHW = some(1, 8, 32, 32, seed=0)
    assert torch.equal(run_blocks(encoder.down_blocks, map_BCHW), nn.Sequential(*encoder.down_blocks)(map_BCHW))
    assert blocks_seen == [block for block in encoder.modules() if type(block).__name__ == "ResBlock"]


def test_kernels_take_only_plain_rms_norms_across_heads() -> None:
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
def test_blocks_on_a_gpu_match_diffusers_up_to_rounding(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    residual, feed = (block.cuda().to(dtype) for block in (a_residual_block(), a_feed_forward()))
    map_BCHW = some(2, 8, 15, 17, seed=0).cuda().to(dtype)
    near = 1e-5 if dtype == torch.float32 else 0.05
    assert torch.allclose(residual_block(residual, map_BCHW), residual(map_BCHW), atol=near)
    found = gated_feed(feed, map_BCHW.permute(0, 2, 3, 1).contiguous()).permute(0, 3, 1, 2)
    assert torch.allclose(found, feed(map_BCHW), atol=near)
