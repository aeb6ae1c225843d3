"""Compiles every kernel as its launcher starts it, for devices that need not be here; prints a JSON object a kernel.

Run as a program, in a process that was told nothing of Triton's interpreter.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from sanarestore.kernels.on_cuda import blend, feed_forward, linear_attention, residual
from sanarestore.kernels.reference import Norm

TYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.int32: "*i32"}

OPTIONS = {"num_warps", "num_stages"}

LARGEST = 2**31


def started(
    dtype: torch.dtype, sizes: Sequence[tuple[int, int]]
) -> Iterator[tuple[Any, tuple[Any, ...], dict[str, Any]]]:
    """Every kernel with what it is started with, at the shapes of the 1.6B model and of so many heads of such sizes."""
    launched: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []
    for module in (blend, feed_forward, linear_attention, residual):
        # The launchers of a package under test, on tensors without memory.
        module.launch = lambda kernel, _programs, _device, *given, **fixed: launched.append((kernel, given, fixed))  # type: ignore[assignment]

    def some(*shape: int, of: torch.dtype = dtype) -> Tensor:
        return torch.empty(shape, dtype=of, device="meta")

    for heads, size in sizes:
        token, norm = some(2, 1024, heads, size), Norm(some(heads * size), 1e-5)
        state = some(2, heads, size + 1, size, of=torch.float32)
        linear_attention.key_sums(token, token)
        linear_attention.key_sums(token, token, norm=norm, counted_BN1=some(2, 1024, 1), state_BHED=state)
        linear_attention.attend(token, state)
        linear_attention.attend(token, state, norm=norm)
    feed_forward.depthwise_glu(some(1, 32, 32, 11200), some(11200, 1, 3, 3), some(11200))
    hidden = some(1, 128, 64, 64).to(memory_format=torch.channels_last)
    residual.bias_silu(hidden, some(128))
    residual.norm_add(hidden, hidden, Norm(some(128), 1e-5), some(128))
    blend.add_windows(some(32, 64, 64), some(3, 32, 32, 32), some(3, 32, 32), [(0, 0), (0, 32), (32, 0)])
    yield from launched


def compiled(kernel: Any, given: tuple[Any, ...], fixed: dict[str, Any], target: GPUTarget) -> Any:
    """As a launch on such a device would have it: whole numbers that are 1 are constants, memory is aligned."""
    signature, constants, attributes = {}, {}, {}
    for place, (name, value) in enumerate(zip(kernel.arg_names, given, strict=False)):
        if isinstance(value, Tensor):
            signature[name] = TYPES[value.dtype]
        elif isinstance(value, float):
            signature[name] = "fp32"
        elif value == 1:
            signature[name], constants[name] = "constexpr", 1
        else:
            signature[name] = "i64" if value >= LARGEST else "i32"
        if isinstance(value, Tensor) or (isinstance(value, int) and value % 16 == 0):
            attributes[(place,)] = [["tt.divisibility", 16]]
    for name in fixed.keys() - OPTIONS:
        signature[name], constants[name] = "constexpr", fixed[name]
    ordered = {name: signature[name] for name in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=ordered, constexprs=constants, attrs=attributes)
    return triton.compile(source, target=target, options={name: fixed[name] for name in OPTIONS & fixed.keys()})


def main(*architectures: int) -> None:
    """Both types and the widest heads on the first device; what is usual on the others."""
    everything = {
        name for module in (blend, feed_forward, linear_attention, residual) for name in vars(module)
        if name.endswith("_kernel")
    }  # fmt: skip
    seen = set()
    plan = [(architecture, torch.bfloat16, [(70, 32)]) for architecture in architectures]
    plan.append((architectures[0], torch.float32, [(8, 128)]))
    for architecture, dtype, sizes in plan:
        for kernel, given, fixed in started(dtype, sizes):
            seen.add(kernel.__name__)
            found = compiled(kernel, given, fixed, GPUTarget("cuda", architecture, 32))
            print(json.dumps({
                "kernel": kernel.__name__, "fixed": str(fixed), "dtype": str(dtype), "architecture": architecture,
                "shared": found.metadata.shared, "target": f".target sm_{architecture}" in found.asm["ptx"],
                "cubin": len(found.asm["cubin"]),
            }))  # fmt: skip
    assert seen == everything, everything - seen


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
