"""Experts come back as they were trained but for rounding, and are mixed with the refiner in the router's shares."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sanarestore import weights
from sanarestore.errors import UsageError, WeightsError
from sanarestore.model.evidence import EVIDENCE
from sanarestore.model.experts import SHARE_STEPS, SHARED, Experts, Shares
from sanarestore.model.loading import EXPERTS, load_model, save_model
from sanarestore.model.prompts import PromptEncoder
from sanarestore.model.refiner import Refiner
from sanarestore.model.tensors import read_tensors, write_json, write_tensors
from tests.conftest import random_refiner, worded


def expert(general: Refiner, seed: int) -> Refiner:
    """It, with small changes to all that experts own."""
    other = random_refiner(seed=0, tone=4)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in other.named_parameters():
        parameter.data.copy_(general.state_dict()[name])
        if name.split(".")[0] not in SHARED:
            parameter.data += 0.01 * torch.randn(parameter.shape, generator=generator)
    return other


@pytest.fixture
def general() -> Refiner:
    refiner = random_refiner(tone=4)
    for parameter in refiner.parameters():
        parameter.data.copy_(parameter.half())  # as it comes from a file
    return refiner


@pytest.fixture
def experts(general: Refiner) -> Experts:
    found = Experts.of(general, {"noise": expert(general, 1), "jpeg": expert(general, 2)})
    found.router.eval().requires_grad_(False)
    return found


def test_an_expert_is_what_it_was_to_half_a_step_of_its_rows(general: Refiner, experts: Experts) -> None:
    trained, found = expert(general, 2).state_dict(), experts.expert("jpeg", general).state_dict()
    for key, tensor in trained.items():
        change = (
            (tensor - general.state_dict()[key]).flatten(1)
            if tensor.ndim > 1
            else (tensor - general.state_dict()[key])[:, None]
        )
        allowed = change.abs().amax(dim=1) / 254 + 1e-7
        error = (found[key] - tensor).reshape(len(tensor), -1).abs().amax(dim=1)
        assert (error <= allowed).all(), key
    assert experts.changes["jpeg"]["stem.weight"].dtype == torch.int8
    assert not any(key.split(".")[0] in SHARED for key in experts.changes["jpeg"])


def test_making_one_leaves_the_refiner_as_it_is(general: Refiner, experts: Experts) -> None:
    before = {key: tensor.clone() for key, tensor in general.state_dict().items()}
    made = experts.expert("noise", general)
    assert all(torch.equal(tensor, before[key]) for key, tensor in general.state_dict().items())
    assert not torch.equal(made.stem.weight, general.stem.weight)
    assert not torch.equal(made.stem.weight, experts.expert("jpeg", general).stem.weight)


def given(experts: Experts, *logits: float) -> Shares:
    """The shares of a photograph for which the router's logits are these, of the general refiner first."""
    experts.router.choice.weight.zero_()
    experts.router.choice.bias.copy_(torch.tensor(logits))
    return experts.shares(torch.zeros(EVIDENCE), torch.zeros(8))


def test_shares_are_chances_in_steps(experts: Experts) -> None:
    for logits in ((0.0, 2.0, 0.0), (0.5, 0.4, -1.0), (3.0, -9.0, 3.0), (0.0, 0.0, 0.0)):
        shares = given(experts, *logits)
        chances = torch.tensor(logits).softmax(dim=0)[1:].tolist()
        assert shares == pytest.approx(chances, abs=0.5 / SHARE_STEPS + 1e-6)
        assert all((share * SHARE_STEPS).is_integer() for share in shares)


def test_a_photograph_is_an_expert_s_where_that_has_the_most_to_do(experts: Experts) -> None:
    assert experts.main(given(experts, 0, 5, 0)) == "noise"
    assert experts.main(given(experts, 0, 0, 5)) == "jpeg"
    assert experts.main(given(experts, 5, 0, 0)) is None
    assert experts.main(given(experts, 0, 3, 3)) is None, "nobody has more than half"


def test_photographs_that_nearly_agree_are_given_nearly_the_same_shares(experts: Experts) -> None:
    """Where a choice between two would be a toss, so that tiles and crops do not differ."""
    one, other = given(experts, -9, 0.01, -0.01), given(experts, -9, -0.01, 0.01)
    assert max(abs(first - second) for first, second in zip(one, other, strict=True)) <= 1 / SHARE_STEPS


def test_a_mixture_lies_between_the_refiner_and_its_experts(general: Refiner, experts: Experts) -> None:
    before = {key: tensor.clone() for key, tensor in general.state_dict().items()}
    mixed = experts.refiner((0.5, 0.25), general).state_dict()
    noise, jpeg = (experts.expert(name, general).state_dict() for name in experts.names)
    for key, tensor in mixed.items():
        expected = before[key] + 0.5 * (noise[key] - before[key]) + 0.25 * (jpeg[key] - before[key])
        torch.testing.assert_close(tensor, expected, atol=1e-6, rtol=0)
        assert torch.equal(general.state_dict()[key], before[key]), "which stays as it is"
        shared = key.split(".")[0] in SHARED
        assert shared == torch.equal(tensor, before[key]) or "bias" in key, key


def test_without_shares_a_mixture_is_the_refiner(general: Refiner, experts: Experts) -> None:
    mixed = experts.refiner((0.0, 0.0), general)
    assert mixed is not general
    assert all(torch.equal(tensor, general.state_dict()[key]) for key, tensor in mixed.state_dict().items())


def test_a_model_with_experts_is_loaded_as_it_was_saved(
    tmp_path: Path, general: Refiner, experts: Experts, encoder: PromptEncoder
) -> None:
    save(tmp_path / "model", general, experts, encoder)
    loaded = load_model(str(tmp_path / "model"))
    assert loaded.experts is not None
    assert loaded.experts.names == ("noise", "jpeg")
    assert {key: tensor.dtype for key, tensor in loaded.experts.tensors().items()} == {
        key: tensor.dtype for key, tensor in load_file(tmp_path / "model" / EXPERTS).items()
    }, "saved again it is as small"
    for name in experts.names:
        one, other = experts.expert(name, general), loaded.experts.expert(name, loaded.refiner)
        assert all(torch.equal(tensor, other.state_dict()[key]) for key, tensor in one.state_dict().items())
    # Not by what it gives: where a library splits its sums may depend on where weights lie in memory.
    router = loaded.experts.router.state_dict()
    assert all(torch.equal(router[key], tensor) for key, tensor in experts.router.state_dict().items())


def test_a_model_without_experts_has_none(tmp_path: Path, general: Refiner, encoder: PromptEncoder) -> None:
    save(tmp_path / "model", general, None, encoder)
    assert load_model(str(tmp_path / "model")).experts is None
    assert not (tmp_path / "model" / EXPERTS).exists()


@pytest.mark.parametrize("damage", ["missing", "surplus", "shape", "router", "unlisted"])
def test_experts_that_do_not_fit_are_refused(
    tmp_path: Path, general: Refiner, experts: Experts, encoder: PromptEncoder, damage: str
) -> None:
    folder = tmp_path / "model"
    save(folder, general, experts, encoder)
    tensors = read_tensors(folder / EXPERTS)
    if damage == "missing":
        del tensors["noise.stem.weight"]
    elif damage == "surplus":
        tensors["noise.middle.conv_in.weight"] = torch.zeros(1)
    elif damage == "shape":
        tensors["jpeg.stem.weight.scale"] = torch.zeros(3)
    elif damage == "router":
        del tensors["router.mix.weight"]
    write_tensors(folder / EXPERTS, tensors)
    manifest = weights.read_manifest(folder)
    manifest["sha256"][EXPERTS] = weights.hash_file(folder / EXPERTS)
    if damage == "unlisted":
        del manifest["sha256"][EXPERTS]
    write_json(folder / weights.MANIFEST, manifest)
    with pytest.raises(WeightsError, match=r"experts"):
        load_model(str(folder))


def test_only_experts_of_this_refiner_are_taken(general: Refiner) -> None:
    moved = expert(general, 1)
    moved.middle.conv_in.bias.data += 1
    wider = Refiner(replace(general.config, steering=30))
    for other in (moved, wider):
        with pytest.raises(UsageError, match="noise: it was not trained as an expert"):
            Experts.of(general, {"noise": other})


def save(folder: Path, general: Refiner, experts: Experts | None, encoder: PromptEncoder) -> None:
    save_model(
        folder, name="expert", refiner=general, **worded(encoder), usual_prompts=["remove noise"],
        defaults={"prompt": "remove noise"}, training={}, experts=experts,
    )  # fmt: skip
