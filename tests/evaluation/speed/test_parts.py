"""Tests that compared implementations give the same results as ours."""

import pytest
import torch

from sanarestore.evaluation.speed.kernel_arms import kernel_arms
from sanarestore.evaluation.speed.parts import Subject
from sanarestore.options import RestoreOptions

CPU = torch.device("cpu")


@torch.inference_mode()
def test_all_implementations_of_a_kernel_agree(whole: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    latent = Subject(RestoreOptions(model=whole), CPU).restorer.latent
    assert latent is not None
    for size in (32, 96):
        for name, *arms in kernel_arms(latent, size):
            found = [arm() for arm in arms]
            if name != "blend":  # which returns nothing
                assert isinstance(found[0], torch.Tensor)
                assert all(torch.equal(found[0], each) for each in found[1:]), name  # type: ignore[arg-type]


@torch.inference_mode()
def test_our_parts_agree_with_those_of_diffusers(whole: str) -> None:
    """The size is no multiple of the stride, so the result of diffusers is cropped to the image."""
    subject = Subject(RestoreOptions(model=whole, steps=2), CPU)
    parts = {part.name: part for part in subject.parts(72)}
    for name in ("generate", "encode", "step", "decode"):
        ours, theirs = parts[name].ours(), parts[name].others["diffusers"]()
        assert isinstance(ours, torch.Tensor)
        assert isinstance(theirs, torch.Tensor)
        if ours.ndim == 3:
            theirs = theirs[0, :, :72, :72]
        assert float(ours.std()) > 1e-3
        torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=0)
