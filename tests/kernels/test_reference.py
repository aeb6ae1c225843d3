"""The reference of linear attention against its definition, and its sums against those of its parts."""

import torch

from sanarestore.kernels.reference import attend, key_sums


def some(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_it_is_a_mean_of_values_by_weights() -> None:
    query, key, value = (some(2, 7, 3, 4, seed=seed).double() for seed in range(3))
    weights = torch.einsum("bnhd,bmhd->bhnm", query.relu(), key.relu())
    expected = torch.einsum("bhnm,bmhd->bnhd", weights / (weights.sum(-1, keepdim=True) + 1e-15), value)
    found = attend(query.float(), key_sums(key.float(), value.float()))
    assert torch.allclose(found.double(), expected, atol=1e-5)


def test_sums_of_parts_add_up() -> None:
    key, value = (some(1, 9, 2, 4, seed=seed) for seed in range(2))
    parts = sum(key_sums(key[:, part], value[:, part]) for part in (slice(0, 4), slice(4, 5), slice(5, 9)))
    assert torch.allclose(parts, key_sums(key, value), atol=1e-6)


def test_sums_are_float32_whatever_comes_in() -> None:
    key, value = (some(1, 9, 2, 4, seed=seed).bfloat16() for seed in range(2))
    sums = key_sums(key, value)
    assert sums.dtype == torch.float32
    assert torch.equal(sums, key_sums(key.float(), value.float()))
    assert attend(key, sums).dtype == torch.bfloat16


def test_who_attends_to_nothing_gets_nothing() -> None:
    query = -torch.ones(1, 2, 1, 4)
    assert attend(query, key_sums(query, query)).eq(0).all()
