"""Reference operations: linear attention against its definition, norms and feed-forward against diffusers."""

import pytest
import torch

from sanarestore.kernels import reference
from sanarestore.kernels.reference import attend, key_sums


def some(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_linear_attention_is_a_weighted_mean_of_values() -> None:
    query, key, value = (some(2, 7, 3, 4, seed=seed).double() for seed in range(3))
    weights = torch.einsum("bnhd,bmhd->bhnm", query.relu(), key.relu())
    expected = torch.einsum("bhnm,bmhd->bnhd", weights / (weights.sum(-1, keepdim=True) + 1e-15), value)
    found = attend(query.float(), key_sums(key.float(), value.float()))
    assert torch.allclose(found.double(), expected, atol=1e-5)


def test_key_sums_of_parts_add_up() -> None:
    key, value = (some(1, 9, 2, 4, seed=seed) for seed in range(2))
    parts = sum(key_sums(key[:, part], value[:, part]) for part in (slice(0, 4), slice(4, 5), slice(5, 9)))
    assert torch.allclose(parts, key_sums(key, value), atol=1e-6)


def test_key_sums_of_bfloat16_inputs_are_float32() -> None:
    key, value = (some(1, 9, 2, 4, seed=seed).bfloat16() for seed in range(2))
    sums = key_sums(key, value)
    assert sums.dtype == torch.float32
    assert torch.equal(sums, key_sums(key.float(), value.float()))
    assert attend(key, sums).dtype == torch.bfloat16


def test_a_query_without_any_weight_gives_zero() -> None:
    query = -torch.ones(1, 2, 1, 4)
    assert attend(query, key_sums(query, query)).eq(0).all()


def test_key_sums_are_added_to_a_given_state() -> None:
    key, value = (some(1, 9, 2, 4, seed=seed) for seed in range(2))
    parts = key_sums(key[:, 4:], value[:, 4:], state_BHED=key_sums(key[:, :4], value[:, :4]))
    assert torch.allclose(parts, key_sums(key, value), atol=1e-6)


def test_uncounted_tokens_are_ignored() -> None:
    key, value = (some(2, 9, 2, 4, seed=seed) for seed in range(2))
    is_counted = torch.tensor([1, 0, 1, 1, 0, 0, 1, 1, 1])
    found = key_sums(key, value, counted_BN1=is_counted.float().expand(2, 9)[..., None])
    assert torch.allclose(found, key_sums(key[:, is_counted > 0], value[:, is_counted > 0]), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_norm_matches_diffusers(dtype: torch.dtype) -> None:
    from diffusers.models.normalization import RMSNorm

    theirs = RMSNorm(8, eps=1e-5, bias=True)
    with torch.no_grad():
        theirs.weight.copy_(some(8, seed=1))
        theirs.bias.copy_(some(8, seed=2))
        theirs.to(dtype)
        given = some(2, 7, 2, 4, seed=0).to(dtype)
        norm = reference.Norm(theirs.weight, 1e-5)
        assert torch.equal(reference.rms_norm(given.flatten(2), norm) + theirs.bias, theirs(given.flatten(2)))
        maps = some(2, 8, 3, 5, seed=3).to(dtype), some(2, 8, 3, 5, seed=4).to(dtype)
        expected = theirs(maps[0].movedim(1, -1)).movedim(-1, 1) + maps[1]
        assert torch.equal(reference.norm_add(*maps, norm, theirs.bias), expected)
    normed = reference.rms_norm(given.flatten(2), norm).view_as(given)
    assert torch.equal(key_sums(given, given, norm=norm), key_sums(normed, given))
    sums = key_sums(given, given)
    assert torch.equal(attend(given, sums, norm=norm), attend(normed, sums))


def test_the_feed_forward_matches_diffusers() -> None:
    from diffusers.models.transformers.sana_transformer import GLUMBConv

    block = GLUMBConv(4, 4, expand_ratio=2.5, residual_connection=False)
    given = some(2, 4, 5, 6, seed=0)
    with torch.no_grad():
        wide = block.conv_inverted(given).permute(0, 2, 3, 1)
        middle = reference.depthwise_glu(wide, block.conv_depth.weight, block.conv_depth.bias)
        assert torch.allclose(block.conv_point(middle.permute(0, 3, 1, 2)), block(given), atol=1e-6)
