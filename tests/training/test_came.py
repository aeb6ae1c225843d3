"""CAME: against the paper's formulas and another implementation, kernels, 8 bits, and weights that are refused."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from sanarestore.errors import UsageError
from sanarestore.training.came import CAME

LR, DECAY = 1e-2, 0.1
BETA_1, BETA_2, BETA_3 = 0.9, 0.999, 0.9999
EPS_1, EPS_2 = 1e-30, 1e-16

Array = npt.NDArray[np.float64]


def gradients(*shape: int, steps: int = 20) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(shape, generator=generator)
    for _ in range(steps):
        yield mean + torch.randn(shape, generator=generator)


def stepped(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, grads: Iterator[Tensor]) -> Tensor:
    for grad in grads:
        parameter.grad = grad
        optimizer.step()
    return parameter.detach()


def by_the_paper(weight: Array, grads: Iterator[Tensor]) -> Array:
    """Algorithm 2 of Luo et al. (2023) for a matrix, in float64."""
    rows, columns = weight.shape
    r, c, u_r, u_c = np.zeros((rows, 1)), np.zeros((1, columns)), np.zeros((rows, 1)), np.zeros((1, columns))
    momentum = np.zeros_like(weight)
    for grad in grads:
        g = grad.double().numpy()
        r = BETA_2 * r + (1 - BETA_2) * (g**2 + EPS_1) @ np.ones((columns, 1)) / columns
        c = BETA_2 * c + (1 - BETA_2) * np.ones((1, rows)) @ (g**2 + EPS_1) / rows
        u = g / np.sqrt(r @ c / (np.ones((1, rows)) @ r / rows))
        u /= max(1.0, np.sqrt((u**2).mean()))
        momentum = BETA_1 * momentum + (1 - BETA_1) * u
        unstable = (u - momentum) ** 2 + EPS_2
        u_r = BETA_3 * u_r + (1 - BETA_3) * unstable @ np.ones((columns, 1)) / columns
        u_c = BETA_3 * u_c + (1 - BETA_3) * np.ones((1, rows)) @ unstable / rows
        s = u_r @ u_c / (np.ones((1, rows)) @ u_r / rows)
        weight = weight - LR * DECAY * weight - LR * momentum / np.sqrt(s)
    return weight


def test_came_follows_the_formulas_of_its_paper() -> None:
    parameter = nn.Parameter(torch.randn(48, 33, generator=torch.Generator().manual_seed(1)))
    expected = by_the_paper(parameter.detach().double().numpy(), gradients(48, 33))
    found = stepped(CAME([parameter], lr=LR, weight_decay=DECAY), parameter, gradients(48, 33))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    assert np.abs(expected).max() > 10 * LR


@pytest.mark.parametrize("shape", [(48, 33), (70,), (5, 1), (1, 40)])
def test_came_equals_that_of_pytorch_optimizer(shape: tuple[int, ...]) -> None:
    theirs = pytest.importorskip("pytorch_optimizer").CAME
    start = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    one, other = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    found = stepped(CAME([one], lr=LR, weight_decay=DECAY), one, gradients(*shape))
    expected = stepped(theirs([other], lr=LR, weight_decay=DECAY), other, gradients(*shape))
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(40, 30, 1, 1), (40, 10, 3, 1)])
def test_dense_kernels_move_like_matrices(shape: tuple[int, ...]) -> None:
    kernel, matrix = nn.Parameter(torch.zeros(shape)), nn.Parameter(torch.zeros(40, 30))
    grads = (grad.to(memory_format=torch.channels_last) for grad in gradients(*shape))
    one = stepped(CAME([kernel], lr=LR), kernel, grads)
    other = stepped(CAME([matrix], lr=LR), matrix, (grad.reshape(40, 30) for grad in gradients(*shape)))
    assert torch.equal(one.reshape(40, 30), other)


@pytest.mark.parametrize("shape", [(40, 1, 3, 3), (360,), ()])
def test_depthwise_kernels_and_vectors_keep_a_full_second_moment(shape: tuple[int, ...]) -> None:
    parameter = nn.Parameter(torch.zeros(shape))
    optimizer = CAME([parameter], lr=LR)
    (grad,) = gradients(*shape, steps=1)
    moved = stepped(optimizer, parameter, iter([grad]))
    assert {key: value.numel() for key, value in optimizer.state[parameter].items()} == {
        "square": parameter.numel(),
        "momentum": parameter.numel(),
    }
    # Gradients of one step, each divided by its own magnitude, have a root mean square of 1.
    assert torch.allclose(moved, -LR * (1 - BETA_1) * grad.sign())


def test_only_the_momentum_of_large_matrices_has_8_bits() -> None:
    large, small = nn.Parameter(torch.zeros(128, 128)), nn.Parameter(torch.zeros(127, 128))
    vector, depthwise = nn.Parameter(torch.zeros(20_000)), nn.Parameter(torch.zeros(2_000, 1, 3, 3))
    parameters = [large, small, vector, depthwise]
    optimizer = CAME(parameters, lr=LR, eight_bit=True)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    dtypes = [{value.dtype for value in optimizer.state[parameter].values()} for parameter in parameters]
    assert dtypes == [{torch.int8, torch.float32}, {torch.float32}, {torch.float32}, {torch.float32}]
    assert optimizer.state[large]["momentum"].dtype == torch.int8


@pytest.mark.parametrize("eight_bit", [False, True])
def test_gradients_of_zero_move_nothing(eight_bit: bool) -> None:
    """The first gradient of half of a LoRA is zero, because the other half starts at zero."""
    parameter = nn.Parameter(torch.ones(128, 128))
    grads = [torch.zeros(128, 128), torch.eye(128), torch.zeros(128, 128)]
    optimizer = CAME([parameter], lr=LR, eight_bit=eight_bit)
    assert torch.equal(stepped(optimizer, parameter, iter(grads[:1])), torch.ones(128, 128))
    assert stepped(optimizer, parameter, iter(grads[1:])).isfinite().all()


def test_sharded_weights_are_refused() -> None:
    parameter = nn.Parameter(torch.zeros(4, 4))
    parameter.to_local = lambda: parameter  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"several devices.*adamw8bit"):
        CAME([parameter], lr=LR)
