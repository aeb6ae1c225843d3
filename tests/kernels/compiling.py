"""Compile every kernel with its launcher's arguments for given devices, and print one JSON object per kernel.

Run this as a program in a process without TRITON_INTERPRET; no GPU is needed.
"""

import json
import sys
from typing import Any, NamedTuple

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


class Shapes(NamedTuple):
    """Sizes of a kernel's inputs."""

    heads: int
    size: int
    """Features per head."""
    side: int
    """Tokens or positions per side of the map."""
    channels: int


USUAL = Shapes(heads=70, size=32, side=32, channels=128)
"""Shapes of the 1.6B model."""

WIDE = Shapes(heads=8, size=128, side=33, channels=1500)

ONES = Shapes(heads=1, size=16, side=1, channels=1)
"""Triton treats arguments equal to 1 as constants."""


def started(dtype: torch.dtype, shapes: Shapes) -> list[tuple[Any, tuple[Any, ...], dict[str, Any]]]:
    """Return every kernel with its launch arguments."""
    launched: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []
    for module in (blend, feed_forward, linear_attention, residual):
        # Run the real launchers on meta tensors and record their arguments.
        module.launch = lambda kernel, _programs, _device, *given, **fixed: launched.append((kernel, given, fixed))  # type: ignore[assignment]

    def some(*shape: int, of: torch.dtype = dtype) -> Tensor:
        return torch.empty(shape, dtype=of, device="meta")

    heads, size, side, channels = shapes
    token, norm = some(1, side * side, heads, size), Norm(some(heads * size), 1e-5)
    state = some(1, heads, size + 1, size, of=torch.float32)
    linear_attention.key_sums(token, token)
    linear_attention.key_sums(token, token, norm=norm, counted_BN1=some(1, side * side, 1), state_BHED=state)
    linear_attention.attend(token, state)
    linear_attention.attend(token, state, norm=norm)
    both = 5 * heads * size if channels > 1 else 2
    feed_forward.depthwise_glu(some(1, side, side, both), some(both, 1, 3, 3), some(both))
    hidden = some(1, channels, side, side).to(memory_format=torch.channels_last)
    residual.bias_silu(hidden, some(channels))
    residual.norm_add(hidden, hidden, Norm(some(channels), 1e-5), some(channels))
    blend.add_windows(some(channels, side, side), some(2, channels, side, 1), some(2, side, 1), [(0, 0), (0, side - 1)])
    return launched


def compiled(kernel: Any, given: tuple[Any, ...], fixed: dict[str, Any], target: GPUTarget) -> Any:
    """Compile a kernel like a launch on the target: integers equal to 1 are constants, and memory is aligned."""
    signature, constants, attributes = {}, {}, {}
    for place, (parameter, value) in enumerate(zip(kernel.params, given, strict=False)):
        name, is_fixed = parameter.name, not parameter.do_not_specialize
        if isinstance(value, Tensor):
            signature[name] = TYPES[value.dtype]
        elif isinstance(value, float):
            signature[name] = "fp32"
        elif value == 1 and is_fixed:
            signature[name], constants[name] = "constexpr", 1
        else:
            signature[name] = "i64" if value >= LARGEST else "i32"
        if isinstance(value, Tensor) or (isinstance(value, int) and is_fixed and value % 16 == 0):
            attributes[(place,)] = [["tt.divisibility", 16]]
    for name in fixed.keys() - OPTIONS:
        signature[name], constants[name] = "constexpr", fixed[name]
    ordered = {name: signature[name] for name in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=ordered, constexprs=constants, attrs=attributes)
    return triton.compile(source, target=target, options={name: fixed[name] for name in OPTIONS & fixed.keys()})


def main(*architectures: int) -> None:
    """Compile usual shapes for every device, and unusual ones for the first."""
    everything = {
        name for module in (blend, feed_forward, linear_attention, residual) for name in vars(module)
        if name.endswith("_kernel")
    }  # fmt: skip
    seen = set()
    plan = [(architecture, torch.bfloat16, USUAL) for architecture in architectures]
    plan += [(architectures[0], torch.float32, shapes) for shapes in (WIDE, ONES)]
    for architecture, dtype, shapes in plan:
        for kernel, given, fixed in started(dtype, shapes):
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
