"""Rounding of weights to 8 bits such that the error of the products is small, and not that of each weight.

Weights are rounded one input after another, and what is not rounded yet makes up for the error so far (Frantar et al.
2023, GPTQ). Shape suffixes: O outputs, I inputs, K kernel positions along a side, N = I K K.
"""

import torch
from torch import Tensor

from sanarestore.kernels.int8_convolution import PAIR, pair_sums
from sanarestore.model.calibration import nearest_codes

DAMPING = 0.01
"""Share of the mean square of the inputs that is added to each: inputs of too few photographs are alike by chance."""

AWAY = 1
"""Codes by which a weight may be rounded away from the nearest one."""


def steps(weight_OIKK: Tensor) -> Tensor:
    """Size of a code for each output, [O]: the finest at which no pair of inputs exceeds `PAIR`, rounding included."""
    if not weight_OIKK.numel():
        return torch.ones(len(weight_OIKK))
    return pair_sums(weight_OIKK.abs()).flatten(1).amax(dim=1).clamp(min=1e-12) / (PAIR - 1)


def rounded(weight_OIKK: Tensor, step_O: Tensor, products_NN: Tensor) -> Tensor:
    """Round weights to codes [O,I,K,K], as floats, given the mean products of the inputs with each other."""
    nearest_ON = nearest_codes(weight_OIKK, step_O).flatten(1)
    left_ON = weight_OIKK.flatten(1) / step_O[:, None]
    places = weight_OIKK[0, 0].numel()
    products_NN = products_NN.double()
    products_NN = products_NN + torch.eye(len(products_NN)) * (products_NN.diagonal().mean() * DAMPING).clamp(min=1.0)
    inverse_NN = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(products_NN)), upper=True).float()
    code_ON = torch.zeros_like(left_ON)
    for place in range(code_ON.shape[1]):
        nearest_O = nearest_ON[:, place]
        code_O = left_ON[:, place].round().clamp(nearest_O - AWAY, nearest_O + AWAY)
        room_O = torch.full_like(code_O, PAIR - 1)
        if (place // places) % 2:
            room_O = (PAIR - code_ON[:, place - places].abs()).clamp(max=PAIR - 1)
        code_O = code_O.clamp(-room_O, room_O)
        code_ON[:, place] = code_O
        error_O = (left_ON[:, place] - code_O) / inverse_NN[place, place]
        left_ON[:, place + 1 :].addr_(error_O, inverse_NN[place, place + 1 :], alpha=-1)
    return code_ON.view_as(weight_OIKK)
