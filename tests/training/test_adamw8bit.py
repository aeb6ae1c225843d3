"""AdamW in 8 bits: against torch's AdamW, and shards."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sanarestore.training.adamw8bit import AdamW8bit


def gradients(*shape: int, steps: int) -> Iterator[Tensor]:
    """Mostly noise, as gradients of a batch are; rows differ in scale."""
    generator = torch.Generator().manual_seed(0)
    scale = torch.randn(shape[0], *[1] * (len(shape) - 1), generator=generator).exp()
    mean = 0.3 * torch.randn(shape, generator=generator)
    for _ in range(steps):
        yield scale * (mean + torch.randn(shape, generator=generator))


def stepped(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, steps: int) -> Tensor:
    for grad in gradients(*parameter.shape, steps=steps):
        parameter.grad = grad
        optimizer.step()
    return parameter.detach()


def test_one_step_equals_adamw() -> None:
    """Moments are rounded after the step that they take part in."""
    ours, theirs = (nn.Parameter(torch.ones(64, 33)) for _ in range(2))
    arguments = {"lr": 1e-2, "betas": (0.9, 0.99), "weight_decay": 0.1}
    one = stepped(AdamW8bit([ours], **arguments), ours, 1)  # type: ignore[arg-type]
    assert torch.allclose(one, stepped(torch.optim.AdamW([theirs], **arguments), theirs, 1), atol=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize("betas", [(0.9, 0.99), (0.9, 0.999)])
def test_many_steps_are_neither_longer_nor_shorter_than_those_of_adamw(betas: tuple[float, float]) -> None:
    """Rounding to the nearest code must not keep the second moment from falling."""
    ours, theirs = (nn.Parameter(torch.zeros(64, 333)) for _ in range(2))
    one = stepped(AdamW8bit([ours], lr=1e-3, betas=betas), ours, 400)
    other = stepped(torch.optim.AdamW([theirs], lr=1e-3, betas=betas, weight_decay=0.0), theirs, 400)
    assert (one * other).sum() / other.square().sum() == pytest.approx(1, abs=0.03)
    assert (one - other).norm() < 0.05 * other.norm()


def test_weights_in_bfloat16_are_trained() -> None:
    parameter = nn.Parameter(torch.zeros(64, 33, dtype=torch.bfloat16))
    parameter.grad = torch.randn(64, 33, generator=torch.Generator().manual_seed(0)).bfloat16()
    AdamW8bit([parameter], lr=0.5).step()
    assert torch.equal(parameter, -0.5 * parameter.grad.sign())


def test_shards_of_whole_blocks_move_like_the_whole() -> None:
    whole = nn.Parameter(torch.zeros(64, 512))
    halves = [nn.Parameter(torch.zeros(32, 512)) for _ in range(2)]
    one, other = AdamW8bit([whole], lr=1e-3), AdamW8bit(halves, lr=1e-3)
    for grad in gradients(64, 512, steps=5):
        whole.grad = grad
        halves[0].grad, halves[1].grad = grad.split(32)
        one.step()
        other.step()
    assert torch.equal(whole, torch.cat([half.detach() for half in halves]))


def test_a_sharded_weight_moves_like_any_other(tmp_path: Path) -> None:
    distributed = pytest.importorskip("torch.distributed.tensor")
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        mesh = torch.distributed.init_device_mesh("cpu", (1,))
        shard = [distributed.Shard(0)]
        plain = nn.Parameter(torch.zeros(64, 512))
        spread = nn.Parameter(distributed.distribute_tensor(torch.zeros(64, 512), mesh, shard))
        one, other = AdamW8bit([plain], lr=1e-3), AdamW8bit([spread], lr=1e-3)
        for grad in gradients(64, 512, steps=3):
            plain.grad, spread.grad = grad, distributed.distribute_tensor(grad, mesh, shard)
            one.step()
            other.step()
        assert torch.equal(plain.detach(), spread.full_tensor().detach())
        assert not any(hasattr(value, "to_local") for value in other.state[spread].values())
    finally:
        torch.distributed.destroy_process_group()
