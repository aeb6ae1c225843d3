"""Models with kernels match the same models without, and launch every expected kernel."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest
import torch
from torch import Tensor

from sanarestore.kernels import choice
from sanarestore.model.autoencoder import Autoencoder
from sanarestore.model.runners.deep import decoder_passes, encoder_passes
from sanarestore.model.runners.exact import exact
from sanarestore.model.runners.windowed import causal, multidiffusion
from sanarestore.model.transformer import Tokens
from tests.model.runners.test_exact import BASES, conditioned, given
from tests.published import tiny_autoencoder

HEADS: dict[str, Any] = {"attention_head_dim": 16, "cross_attention_dim": 32, "num_layers": 1}


@pytest.fixture
def launched(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count launches of kernels, in the interpreter and on a GPU."""
    from sanarestore.kernels.on_cuda import blend, feed_forward, launching, linear_attention, residual

    counter: Counter[str] = Counter()

    def launch(kernel: Any, *given: Any, **fixed: Any) -> None:
        counter[kernel.__name__] += 1
        launching.launch(kernel, *given, **fixed)

    for module in (blend, feed_forward, linear_attention, residual):
        monkeypatch.setattr(module, "launch", launch)
    monkeypatch.setattr(choice, "available", lambda asked: asked.type == device.type and chosen.get())
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    return counter


chosen = ContextVar("chosen", default=False)


@contextmanager
def kernels() -> Iterator[None]:
    token = chosen.set(True)
    try:
        yield
    finally:
        chosen.reset(token)


@pytest.mark.parametrize("base", ["sana1.5", "patches"])
@torch.no_grad()
def test_runners_with_kernels_match_the_references(device: torch.device, launched: Counter[str], base: str) -> None:
    model = conditioned(**{**BASES[base], **HEADS}).to(device)
    latent, condition, tokens = given(4, 6, batch=1)
    latent, condition = latent.to(device), condition.to(device)
    tokens = Tokens(token_BLD=tokens.token_BLD.to(device), mask_BL=tokens.mask_BL.to(device))
    runners = (
        exact(model, condition, tokens, largest=12),
        causal(model, condition, tokens, tile=4, overlap=2, at_once=2),
        multidiffusion(model, condition, tokens, tile=4, overlap=2, at_once=3),
    )
    expected = [runner(latent, 0.7) for runner in runners]
    assert not launched
    with kernels():
        found = [runner(latent, 0.7) for runner in runners]
    for ours, reference in zip(found, expected, strict=True):
        assert torch.allclose(ours, reference, atol=1e-5)
    assert launched.keys() == {
        "partial_sums_kernel", "add_parts_kernel", "attend_kernel", "depthwise_glu_kernel", "add_windows_kernel",
        *(["row_scales_kernel"] if base == "sana1.5" else []),
    }  # fmt: skip


@torch.no_grad()
def test_an_autoencoder_with_kernels_matches_the_references(device: torch.device, launched: Counter[str]) -> None:
    dc = tiny_autoencoder(
        attention_head_dim=16, encoder_block_out_channels=[16] * 6, decoder_block_out_channels=[16] * 6,
        encoder_layers_per_block=[1] * 6, decoder_layers_per_block=[1] * 6,
    )  # fmt: skip
    autoencoder = Autoencoder(dc).eval().to(device)
    image = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(0)).to(device)

    def everything() -> list[Tensor]:
        map_BChw = autoencoder.encode_shallow(image)
        latent = through(encoder_passes(autoencoder), map_BChw[0])
        decoded = through(decoder_passes(autoencoder), latent)
        return [map_BChw[0], latent, decoded, autoencoder.decode_shallow(decoded[None])[0]]

    expected = everything()
    assert not launched
    with kernels():
        found = everything()
    for ours, reference in zip(found, expected, strict=True):
        assert torch.allclose(ours, reference, atol=1e-5)
    assert launched.keys() == {
        "bias_silu_kernel", "norm_add_kernel", "partial_sums_kernel", "add_parts_kernel", "attend_kernel",
        "depthwise_glu_kernel",
    }  # fmt: skip


def through(passes: Any, given_CHW: Tensor) -> Tensor:
    """Run all passes untiled."""
    for each in passes:
        window = given_CHW[None].contiguous(memory_format=torch.channels_last)
        core = (slice(None), slice(None))
        sums = each.key_sums(window, core) if each.key_sums is not None else None
        given_CHW = each.run(window, sums)[0]
    return given_CHW
