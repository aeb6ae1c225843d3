"""What the kernels compute, in plain PyTorch: their specification, and what runs where there is no GPU.

Shape suffixes: B batch, N tokens, H heads, D features of a head, E = D + 1.
"""

import torch.nn.functional as F
from torch import Tensor

SMALLEST = 1e-15
"""Added to the sum of weights before dividing, as SANA's checkpoints were trained."""


def key_sums(key_BNHD: Tensor, value_BNHD: Tensor) -> Tensor:
    """What linear attention keeps of tokens, [B,H,E,D] in float32: sum over n of (v_n, 1) relu(k_n)^T.

    Sums of more tokens are the sums of these, whatever the order.
    """
    values_BHEN = F.pad(value_BNHD.permute(0, 2, 3, 1).float(), (0, 0, 0, 1), value=1.0)
    return values_BHEN @ F.relu(key_BNHD).transpose(1, 2).float()


def attend(query_BNHD: Tensor, sums_BHED: Tensor) -> Tensor:
    """Linear attention to the tokens that were summed, [B,N,H,D] in the type of the queries (Xie et al. 2024, eq. 1).

    sum_m v_m relu(k_m)^T relu(q_n) / sum_m relu(k_m)^T relu(q_n), in float32.
    """
    weighed_BHEN = sums_BHED @ F.relu(query_BNHD).permute(0, 2, 3, 1).float()
    mean_BHDN = weighed_BHEN[:, :, :-1] / (weighed_BHEN[:, :, -1:] + SMALLEST)
    return mean_BHDN.permute(0, 3, 1, 2).to(query_BNHD.dtype)
