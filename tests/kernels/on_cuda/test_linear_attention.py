"""Linear attention kernels on odd numbers of tokens, against float64, without access out of bounds."""

from typing import Any

import pytest
import torch
from torch import Tensor

from sanarestore.kernels.reference import Norm
from tests.kernels.guards import Guarded, assert_close, some

DTYPES = [torch.float32, torch.bfloat16]

SIZES = [(1, 32), (63, 32), (1000, 32), (63, 16), (70, 64), (33, 128)]
"""Numbers of tokens, and features per head."""


def kernels() -> Any:
    from sanarestore.kernels.on_cuda import linear_attention

    return linear_attention


def exact_norm(feature_BNHD: Tensor, norm: Norm | None) -> Tensor:
    if norm is None:
        return feature_BNHD
    square = feature_BNHD.square().mean(dim=(2, 3), keepdim=True)
    return feature_BNHD / (square + norm.epsilon).sqrt() * norm.weight_F.double().cpu().view(feature_BNHD.shape[2:])


def exact_sums(key: Tensor, value: Tensor, norm: Norm | None = None, is_counted: Tensor | None = None) -> Tensor:
    """Compute key sums in float64 from the definition."""
    key, value = exact_norm(key.double().cpu(), norm).relu(), value.double().cpu()
    key = key if is_counted is None else key * is_counted.double().cpu()[..., None]
    ones = torch.cat([value, torch.ones_like(value[..., :1])], dim=3)
    return torch.einsum("bnhe,bnhd->bhed", ones, key)


def exact_mean(query: Tensor, sums: Tensor, norm: Norm | None = None) -> Tensor:
    weighed = torch.einsum("bhed,bnhd->bnhe", sums.double().cpu(), exact_norm(query.double().cpu(), norm).relu())
    return weighed[..., :-1] / (weighed[..., -1:] + 1e-15)


def given(guarded: Guarded, tokens: int, size: int, dtype: torch.dtype, *, heads: int = 3) -> list[Tensor]:
    """Make keys, values and queries of two images, with nonzero means so that sums are large."""
    return [guarded(some(2, tokens, heads, size, seed=seed) + 0.5 * seed, dtype) for seed in range(3)]


def a_norm(guarded: Guarded, width: int, dtype: torch.dtype) -> Norm:
    return Norm(guarded(1 + 0.3 * some(width, seed=7), dtype), 1e-5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("tokens", "size"), SIZES)
def test_key_sums(guarded: Guarded, tokens: int, size: int, dtype: torch.dtype) -> None:
    key, value, _ = given(guarded, tokens, size, dtype)
    found = kernels().key_sums(key, value)
    assert found.dtype == torch.float32
    # Sums are computed in float32 from the inputs, without intermediate rounding.
    assert_close(found, exact_sums(key, value), torch.float32)
    guarded.check()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("tokens", "size"), [(1, 32), (63, 32), (130, 16)])
def test_key_sums_with_norm_mask_and_state(guarded: Guarded, tokens: int, size: int, dtype: torch.dtype) -> None:
    key, value, _ = given(guarded, tokens, size, dtype)
    is_counted = guarded((torch.arange(tokens) % 3 > 0).expand(2, tokens)[..., None].contiguous().float(), dtype)
    norm, state = a_norm(guarded, 3 * size, dtype), guarded(10 * some(2, 3, size + 1, size, seed=9))
    found = kernels().key_sums(key, value, norm=norm, counted_BN1=is_counted, state_BHED=state)
    assert_close(found, exact_sums(key, value, norm, is_counted) + state.double().cpu(), dtype)
    guarded.check()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("tokens", "size", "normed"), [*((*each, False) for each in SIZES), (1, 32, True), (63, 32, True), (33, 128, True)]
)
def test_attended_means(guarded: Guarded, tokens: int, size: int, normed: bool, dtype: torch.dtype) -> None:
    key, value, query = given(guarded, tokens, size, dtype)
    sums = guarded(exact_sums(key, value).float())
    norm = a_norm(guarded, 3 * size, dtype) if normed else None
    found = kernels().attend(query, sums, norm=norm)
    assert found.dtype == dtype
    assert_close(found, exact_mean(query, sums, norm), dtype)
    guarded.check()


def test_norm_over_a_width_that_is_no_multiple_of_a_block(guarded: Guarded) -> None:
    """SANA's width: 70 heads of 32 are 2,240 features."""
    key, value, _ = (each[:1] for each in given(guarded, 2, 32, torch.float32, heads=70))
    norm = a_norm(guarded, 2240, torch.float32)
    assert_close(kernels().key_sums(key, value, norm=norm), exact_sums(key, value, norm), torch.float32)
    guarded.check()


@pytest.mark.parametrize("tokens", [63, 200])
def test_strided_views_of_one_tensor(guarded: Guarded, tokens: int) -> None:
    """An autoencoder's maps have contiguous tokens, and share one tensor for queries, keys and values."""
    together = guarded(some(2, 3 * 96, tokens, seed=0)).unflatten(1, (3, 96)).permute(0, 3, 1, 2)  # type: ignore[no-untyped-call]
    query, key, value = together.chunk(3, dim=3)
    sums = kernels().key_sums(key, value)
    assert_close(sums, exact_sums(key, value), torch.float32)
    assert_close(kernels().attend(query, sums), exact_mean(query, sums), torch.float32)
    guarded.check()


def test_key_sums_in_many_parts(device: torch.device, guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adding the sums of other tokens to the state of some gives the sums of all."""
    monkeypatch.setattr(kernels(), "PART", 64)
    monkeypatch.setattr(kernels(), "MOST_PARTS", 3)
    key, value, _ = given(guarded, 500, 16, torch.float32)
    whole = kernels().key_sums(key, value)
    assert_close(whole, exact_sums(key, value), torch.float32)
    parts = kernels().key_sums(
        key[:, 201:], value[:, 201:], state_BHED=kernels().key_sums(key[:, :201], value[:, :201])
    )
    assert_close(parts, exact_sums(key, value), torch.float32)
    assert torch.equal(whole, kernels().key_sums(key, value)), "results are deterministic"
    guarded.check()


def test_a_query_without_any_weight_gives_zero(guarded: Guarded) -> None:
    query = guarded(-torch.ones(1, 2, 1, 16))
    assert kernels().attend(query, kernels().key_sums(query, query)).eq(0).all()


def test_nan_inputs_give_nan_results(guarded: Guarded) -> None:
    key, value, query = given(guarded, 5, 16, torch.float32)
    key[0, 3, 1, 2] = query[1, 2, 0, 4] = float("nan")
    sums = kernels().key_sums(key, value)
    assert sums[0, 1, :, 2].isnan().all()
    assert sums.isnan().sum() == 17
    assert kernels().attend(query, torch.nan_to_num(sums))[1, 2, 0].isnan().all()
