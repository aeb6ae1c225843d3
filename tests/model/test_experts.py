"""Experts: stored as quantised changes of the refiner, chosen by the router, saved and loaded."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sanarestore import weights
from sanarestore.degradations.requests import KINDS
from sanarestore.errors import UsageError, WeightsError
from sanarestore.files import hash_file
from sanarestore.model.experts import PHOTOGRAPH, SHARED, Experts
from sanarestore.model.loading import EXPERTS, load_model, save_model
from sanarestore.model.prompts import PromptEncoder
from sanarestore.model.refiner import Refiner
from sanarestore.model.routing import ROUTING_FEATURES
from sanarestore.model.tensors import read_tensors, write_json, write_tensors
from tests.conftest import random_refiner, worded


def expert(general: Refiner, seed: int) -> Refiner:
    """Copy a refiner with small changes to all weights that experts own."""
    other = random_refiner(seed=0, colour_correction=4)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in other.named_parameters():
        parameter.data.copy_(general.state_dict()[name])
        if name.split(".")[0] not in SHARED:
            parameter.data += 0.01 * torch.randn(parameter.shape, generator=generator)
    return other


@pytest.fixture
def general() -> Refiner:
    refiner = random_refiner(colour_correction=4)
    for parameter in refiner.parameters():
        parameter.data.copy_(parameter.half())  # as it comes from a file
    return refiner


@pytest.fixture
def experts(general: Refiner) -> Experts:
    found = Experts.of(general, {"noise": expert(general, 1), "jpeg": expert(general, 2)})
    found.router.eval().requires_grad_(False)
    return found


def test_an_expert_is_stored_within_half_a_quantisation_step_per_row(general: Refiner, experts: Experts) -> None:
    trained, found = expert(general, 2).state_dict(), experts.refiner("jpeg", general).state_dict()
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


def test_building_an_expert_does_not_change_the_general_refiner(general: Refiner, experts: Experts) -> None:
    before = {key: tensor.clone() for key, tensor in general.state_dict().items()}
    made = experts.refiner("noise", general)
    assert all(torch.equal(tensor, before[key]) for key, tensor in general.state_dict().items())
    assert not torch.equal(made.stem.weight, general.stem.weight)
    assert not torch.equal(made.stem.weight, experts.refiner("jpeg", general).stem.weight)


def shares_for_logits(experts: Experts, *logits: float) -> dict[str | None, float]:
    """Return the shares for the given router logits; the first logit is the general refiner's."""
    experts.router.choice.weight.zero_()
    experts.router.choice.bias.copy_(torch.tensor(logits))
    return experts.shares(torch.zeros(ROUTING_FEATURES), torch.zeros(8))


@pytest.mark.parametrize(
    ("logits", "names"),
    [
        ((0.0, 9.0, 0.0), ["noise"]),
        ((0.0, 0.0, 9.0), ["jpeg"]),
        ((9.0, 0.0, 0.0), [None]),
        ((0.0, 0.0, 0.0), [None, "noise", "jpeg"]),
        ((0.0, -9.0, 0.5), [None, "jpeg"]),
    ],
)
def test_shares_go_to_the_likely_refiners_only(
    experts: Experts, logits: tuple[float, ...], names: list[str | None]
) -> None:
    shares = shares_for_logits(experts, *logits)
    assert list(shares) == names
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) > 0
    chances = dict(zip((None, "noise", "jpeg"), torch.tensor(logits).softmax(dim=0).tolist(), strict=True))
    assert sorted(shares, key=lambda name: shares[name]) == sorted(shares, key=lambda name: chances[name])


@pytest.mark.parametrize(
    ("removes", "names"),
    [(None, ["jpeg"]), (("jpeg",), ["jpeg"]), (("noise",), [None]), (("blur", "noise"), [None]), ((), [None])],
)
def test_an_expert_gets_no_share_unless_its_kind_is_requested(
    experts: Experts, removes: tuple[str, ...] | None, names: list[str | None]
) -> None:
    shares_for_logits(experts, 0.0, -200.0, 200.0)
    shares = experts.shares(torch.zeros(ROUTING_FEATURES), torch.zeros(8), removes)
    assert list(shares) == names
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_equally_likely_refiners_get_equal_shares(general: Refiner, count: int) -> None:
    """Equal logits give every refiner the same share for any number of experts."""
    of_kinds = {kind: expert(general, seed) for seed, kind in enumerate(KINDS[:count])}
    found = Experts.of(general, of_kinds)
    found.router.requires_grad_(False)
    shares = shares_for_logits(found, *[0.0] * (1 + count))
    assert list(shares.values()) == pytest.approx([1 / (1 + count)] * (1 + count))


def test_a_confident_router_gives_one_refiner_the_full_share(experts: Experts) -> None:
    """Most photographs then need only one network."""
    assert shares_for_logits(experts, 0, 3, 0) == {"noise": 1.0}
    assert shares_for_logits(experts, 3, 0, 0) == {None: 1.0}


def test_two_refiners_run_only_where_neither_is_clearly_likelier(experts: Experts) -> None:
    """With three refiners, the less likely one runs from a quarter on: up to a difference of logits of 0.73."""
    assert shares_for_logits(experts, 0, 0.7, -9).keys() == {None, "noise"}
    assert shares_for_logits(experts, 0, 0.8, -9) == {"noise": 1.0}


def test_shares_change_continuously_with_the_logits(experts: Experts) -> None:
    """Two crops of one photograph have slightly different features, and must get nearly the same result."""
    steps = torch.linspace(-4, 4, 801).tolist()
    names = (None, "noise", "jpeg")
    shares = [[shares_for_logits(experts, 0, step, -1).get(name, 0.0) for name in names] for step in steps]
    assert torch.tensor(shares).diff(dim=0).abs().max() < 0.02
    assert shares[0][1] == 0
    assert shares[-1][1] == 1


def test_a_saved_model_with_experts_loads_unchanged(
    tmp_path: Path, general: Refiner, experts: Experts, encoder: PromptEncoder
) -> None:
    save(tmp_path / "model", general, experts, encoder)
    loaded = load_model(str(tmp_path / "model"))
    assert loaded.experts is not None
    assert loaded.experts.names == ("noise", "jpeg")
    assert {key: tensor.dtype for key, tensor in loaded.experts.tensors().items()} == {
        key: tensor.dtype for key, tensor in load_file(tmp_path / "model" / EXPERTS).items()
    }, "a loaded model keeps the compact dtypes"
    for name in experts.names:
        one, other = experts.refiner(name, general), loaded.experts.refiner(name, loaded.refiner)
        assert all(torch.equal(tensor, other.state_dict()[key]) for key, tensor in one.state_dict().items())
    # Compare weights, not results: the order of a library's sums may depend on the alignment of weights in memory.
    router = loaded.experts.router.state_dict()
    assert all(torch.equal(router[key], tensor) for key, tensor in experts.router.state_dict().items())


def test_an_expert_of_an_unknown_name_is_refused(general: Refiner) -> None:
    experts = Experts.of(general, {"haze": expert(general, 3)})
    with pytest.raises(WeightsError, match="the expert 'haze' is not known"):
        Experts.from_tensors(("haze",), general, experts.tensors(), Path("model"))


@pytest.mark.parametrize(
    ("removes", "asked"),
    [
        (None, [True, True, True]), (("noise",), [True, True, False]), (("jpeg",), [True, False, True]),
        (("noise", "lowlight"), [True, True, False]), (("colour",), [True, False, False]), ((), [True, False, False]),
    ],
)  # fmt: skip
def test_the_expert_for_photographs_removes_noise(
    general: Refiner, removes: tuple[str, ...] | None, asked: list[bool]
) -> None:
    experts = Experts.of(general, {PHOTOGRAPH: expert(general, 3), "jpeg": expert(general, 4)})
    assert experts.asked_for(removes).tolist() == asked


def test_a_model_saved_without_experts_loads_without_them(
    tmp_path: Path, general: Refiner, encoder: PromptEncoder
) -> None:
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
        tensors["noise.bottleneck.conv_in.weight"] = torch.zeros(1)
    elif damage == "shape":
        tensors["jpeg.stem.weight.scale"] = torch.zeros(3)
    elif damage == "router":
        del tensors["router.mix.weight"]
    write_tensors(folder / EXPERTS, tensors)
    manifest = weights.read_manifest(folder)
    manifest["sha256"][EXPERTS] = hash_file(folder / EXPERTS)
    if damage == "unlisted":
        del manifest["sha256"][EXPERTS]
    write_json(folder / weights.MANIFEST, manifest)
    with pytest.raises(WeightsError, match=r"experts"):
        load_model(str(folder))


def test_experts_of_another_refiner_are_refused(general: Refiner) -> None:
    moved = expert(general, 1)
    moved.bottleneck.conv_in.bias.data += 1
    wider = Refiner(replace(general.config, modulation_width=30))
    for other in (moved, wider):
        with pytest.raises(UsageError, match="noise: it was not trained as an expert"):
            Experts.of(general, {"noise": other})


def save(folder: Path, general: Refiner, experts: Experts | None, encoder: PromptEncoder) -> None:
    save_model(
        folder, name="expert", refiner=general, **worded(encoder),
        defaults={"prompt": "remove noise"}, training={}, experts=experts,
    )  # fmt: skip
