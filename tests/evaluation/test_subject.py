"""Whatever stands beside ours does the same."""

import pytest
import torch

from sanarestore.evaluation.kernel_arms import kernel_arms
from sanarestore.evaluation.subject import Subject
from sanarestore.options import RestoreOptions

CPU = torch.device("cpu")


@torch.inference_mode()
def test_arms_of_kernels_do_the_same(whole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    latent = Subject(RestoreOptions(model=whole), CPU).restorer.latent
    assert latent is not None
    for size in (32, 96):
        for name, *arms in kernel_arms(latent, size):
            found = [arm() for arm in arms]
            if name != "blend":  # which gives nothing back
                assert isinstance(found[0], torch.Tensor)
                assert all(torch.equal(found[0], each) for each in found[1:]), name  # type: ignore[arg-type]


@torch.inference_mode()
def test_all_ways_do_the_same(whole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to what diffusers' tiles, which do not overlap here, change; of a size that is no multiple of the stride."""
    monkeypatch.setattr(torch, "empty_like", torch.zeros_like)
    subject = Subject(RestoreOptions(model=whole, steps=2), CPU)
    generation = subject.restorer.generation
    assert generation is not None
    seen: dict[str, torch.Tensor] = {}
    generation.watch = seen.__setitem__
    parts = {part.name: part for part in subject.parts(72)}
    parts["generate"].ours()
    generated = parts["generate"].others["diffusers"]()
    torch.testing.assert_close(generated[0, :, :72, :72], seen["generated"], atol=1e-4, rtol=0)  # type: ignore[index]
    torch.testing.assert_close(parts["encode"].others["diffusers"](), seen["condition"][None], atol=1e-4, rtol=0)
    torch.testing.assert_close(parts["step"].others["diffusers"](), parts["step"].ours(), atol=1e-4, rtol=0)
    seen.clear()
    parts["decode"].ours()
    assert parts["decode"].others["diffusers"]().shape == (1, 3, 96, 96)  # type: ignore[attr-defined]
