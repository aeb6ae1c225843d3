"""Objectives: trained parts, losses, learning, and saving as models or adapters that restore."""

import copy
import functools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sanarestore import images
from sanarestore.degradations.grammar import Wording
from sanarestore.degradations.requests import KINDS as DEGRADED
from sanarestore.degradations.requests import Request, folded
from sanarestore.engine.restorer import Restorer
from sanarestore.errors import UsageError
from sanarestore.model import base as base_module
from sanarestore.model.colour_correction import WholePhoto, colour_statistics, overview
from sanarestore.model.condition import KINDS, ConditionKind
from sanarestore.model.experts import Experts
from sanarestore.model.loading import RestorationModel, load_model
from sanarestore.model.prompts import PromptEncoder
from sanarestore.model.reading import is_reader
from sanarestore.model.refiner import Refiner
from sanarestore.model.runners.windowed import causal
from sanarestore.model.transformer import Tokens
from sanarestore.options import RestoreOptions
from sanarestore.training.batching import Batch
from sanarestore.training.data import OverviewSamples
from sanarestore.training.generating import AutoencoderObjective, drawn_noise, generate
from sanarestore.training.losses import decibels
from sanarestore.training.objective import Objective
from sanarestore.training.objectives import new_objective
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.recipe_shapes import LATENT_OBJECTIVES, OBJECTIVES, LatentShape
from sanarestore.training.refining import ColourCorrectionObjective, RouterObjective
from sanarestore.training.starting import Start, from_scratch
from tests.conftest import photo
from tests.published import TINY_RECIPE as RECIPE
from tests.published import write_published

ASKED = {
    "remove noise": Request.of("noise"), "brighten this photo": Request.of("lowlight"),
    "fix the colours": Request.of("colour"), "Restore this image": Request(),
}  # fmt: skip

WORDINGS = (
    Wording(text="so grainy", removed=("noise",)), Wording(text="keep the blur", kept=("blur",)),
    Wording(text="too yellow and JPEG everywhere, but leave the light", removed=("colour", "jpeg"), kept=("lowlight",)),
    Wording(text="a cat on a mat", understood=False),
)  # fmt: skip


@functools.cache
def batch(number: int = 0) -> Batch:
    clean = torch.stack([torch.from_numpy(photo(64, 64, seed)).permute(2, 0, 1) for seed in range(4)])
    noise = 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(number))
    statistics = torch.stack([colour_statistics(overview(image)) for image in clean + noise])
    return Batch(
        degraded_BCHW=clean + noise, target_BCHW=clean, statistics_BK=statistics, prompts=list(ASKED), number=number,
        requests=tuple(ASKED.values()), wordings=WORDINGS,
    )  # fmt: skip


def asking(given: Batch, *requests: Request) -> Batch:
    """Replace the requests of a batch and use their plain wordings as prompts."""
    return replace(given, prompts=[request.plain for request in requests], requests=requests)


def first_of(given: Batch) -> Batch:
    """Return a batch of the first photograph alone."""
    return replace(
        given, degraded_BCHW=given.degraded_BCHW[:1], target_BCHW=given.target_BCHW[:1],
        statistics_BK=given.statistics_BK[:1], prompts=given.prompts[:1], requests=given.requests[:1],
    )  # fmt: skip


@pytest.fixture
def without_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore without a margin, because training crops have none."""
    monkeypatch.setattr(Refiner, "margin", 0)


def made(name: str, **changes: Any) -> Objective:
    recipe = replace(RECIPE, objective=name, **changes)
    objective = routed(recipe) if name == "router" else new_objective(recipe)
    objective.to(torch.device("cpu"))
    return objective


def test_experts_stay_where_only_the_colour_correction_grows(tmp_path: Path) -> None:
    routed(replace(RECIPE, objective="router")).save(tmp_path / "model", RECIPE, {})
    start = Start(base=str(tmp_path / "model"))
    wider, other = (
        start.parts(replace(RECIPE, objective="colour-correction", model=replace(RECIPE.model, **{name: value})))
        for name, value in (("colour_statistics", 52), ("spectrum", 5))
    )
    assert wider.refiner.config.colour_statistics == 52
    assert wider.experts is not None
    assert other.experts is None, "experts are differences from another refiner"


def routed(recipe: TrainingRecipe) -> Objective:
    """Make a router between a fresh refiner and different experts for noise and JPEG."""
    parts = from_scratch(recipe)
    for parameter in parts.refiner.parameters():
        parameter.data.copy_(parameter.half())  # as it comes from a file
    experts = {}
    for seed, kind in enumerate(("noise", "jpeg")):
        experts[kind] = copy.deepcopy(parts.refiner)
        torch.manual_seed(seed)
        for module in replace(parts, refiner=experts[kind]).expert.values():
            for parameter in module.parameters():
                parameter.data += 0.02 * torch.randn_like(parameter)
    return RouterObjective(replace(parts, experts=Experts.of(parts.refiner, experts)), recipe)


def all_parts(objective: Any) -> dict[str, torch.nn.Module]:
    parts = objective.parts
    owned = torch.nn.ModuleDict(parts.expert)
    found = {
        "owned": owned,
        "bottleneck": parts.refiner.bottleneck,
        "colour_correction": parts.refiner.colour_correction,
    }
    if parts.reader:
        found["reader"] = parts.reader
    if parts.experts:
        found["router"] = parts.experts.router
    if parts.latent:
        autoencoder = parts.latent.autoencoder
        found |= {"transformer": parts.latent.transformer.transformer, "condition": parts.latent.transformer.condition}
        found |= {"encoder": autoencoder.encoder, "decoder": autoencoder.decoder}
    return found


INVISIBLE = ("wording", "autoencoder", "flow", "router", "distillation")
"""Objectives that do not change the result of a model with an untrained refiner or an unused latent path."""

TRAINED = {
    "colour-correction": {"colour_correction"},
    "refiner": {"owned", "bottleneck", "colour_correction"},
    "wording": {"reader"},
    "expert": {"owned"},
    "router": {"router"},
    "autoencoder": {"encoder", "decoder"},
    "flow": {"transformer", "condition"},
    "end-to-end": {"owned", "bottleneck", "colour_correction", "transformer", "condition", "decoder"},
    "distillation": {"transformer", "condition"},
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_trains_its_own_parts_and_no_others(name: str) -> None:
    objective = made(name)
    objective.loss(batch()).backward()  # type: ignore[no-untyped-call]
    parts = all_parts(objective)
    assert {part for part, module in parts.items() if any(p.requires_grad for p in module.parameters())} == TRAINED[
        name
    ]
    owned = {id(parameter) for parameter in objective.modules.parameters()}
    for part, module in parts.items():
        for parameter in module.parameters():
            assert (id(parameter) in owned) == (part in TRAINED[name])
            assert part in TRAINED[name] or parameter.grad is None
    moved = {
        part for part, module in parts.items() if any(p.grad is not None and p.grad.any() for p in module.parameters())
    }
    # A new refiner has a head of zeros, so no gradient reaches its bottleneck yet.
    assert moved >= TRAINED[name] - ({"bottleneck"} if "owned" in TRAINED[name] else set())


SLOW_LEARNERS = ("colour-correction", "refiner", "expert", "distillation")
"""Objectives whose loss falls little in the first steps."""


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loss_of_one_repeated_batch_falls(name: str) -> None:
    objective = made(name)
    # A new autoencoder is already near its optimum, and large steps would make it worse.
    optimizer = torch.optim.AdamW(objective.modules.parameters(), 5e-4 if name == "autoencoder" else 3e-3)
    losses = []
    for _ in range(40 if name in SLOW_LEARNERS else 20):
        loss = objective.loss(batch())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    # The flow's loss is a squared error, the reader's is in nats, the others' are in decibels. A refiner starts at the
    # identity and learns slowly.
    # Distillation's loss is the size of a tangent, which is small where the transformer is new.
    least = {
        "distillation": 0.005,
        "flow": 0.1,
        "wording": 1.0,
        "refiner": 0.1,
        "expert": 0.1,
        "router": 0.3,
        "colour-correction": 0.1,
    }.get(name, 1.0)
    assert losses[-1] < losses[0] - least, losses


@pytest.mark.parametrize("name", LATENT_OBJECTIVES)
def test_a_latent_loss_depends_on_the_batch_only(name: str) -> None:
    """The global random state has no effect; otherwise resuming would not be exact."""
    objective = made(name)
    first = objective.loss(batch()).item()
    torch.randn(7)
    assert objective.loss(batch()).item() == first
    assert objective.loss(replace(batch(), first=1)).item() != first


@pytest.mark.usefixtures("without_margin")
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_saved_model_restores_as_in_training(name: str, tmp_path: Path) -> None:
    objective = made(name)
    with torch.no_grad():
        for parameter in objective.modules.parameters():
            parameter.copy_((parameter + 0.02 * torch.randn_like(parameter)).half())
    objective.save(tmp_path / "model", RECIPE, {})
    model = load_model(str(tmp_path / "model"))
    assert (model.latent is not None) == (name in LATENT_OBJECTIVES)
    assert bool(model.defaults.get("latent")) == (name == "end-to-end")
    assert is_reader(tmp_path / "model") == (name == "wording")
    asked = Request.of("noise", "lowlight", "colour")
    one = asking(first_of(batch()), asked)
    image = images.Image(
        pixels_HWC=one.degraded_BCHW[0].permute(1, 2, 0).contiguous().numpy(), depth="float32", format="tiff"
    )
    restored = Restorer(RestoreOptions(prompt=asked.plain), device="cpu", model=model)(image)
    assert np.abs(restored.pixels_HWC - image.pixels_HWC).max() > 1e-4 or name in INVISIBLE
    if name in ("refiner", "router"):
        objective.modules.eval()
        with torch.no_grad():
            expected = objective.restore(one)[0].permute(1, 2, 0)
        assert torch.allclose(torch.from_numpy(restored.pixels_HWC), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["flow", "end-to-end"])
def test_disagreement_between_seeds_costs_the_weight_of_the_recipe(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Agreeing seeds cost nothing: a transformer that always returns the condition ignores the noise."""

    def cost(weight: float) -> float:
        objective: Any = made(name, agreement_weight=weight, p_one=1.0)
        if agreeing:
            path = objective.parts.latent.transformer
            monkeypatch.setattr(path, "forward", lambda latent, condition, *_: latent - condition)
        with torch.no_grad():
            return float(objective.loss(batch()))

    agreeing = False
    assert cost(2.0) - cost(0.0) > 0.1
    assert (cost(4.0) - cost(0.0)) / (cost(2.0) - cost(0.0)) == pytest.approx(2, rel=1e-3)
    agreeing = True
    assert cost(2.0) == pytest.approx(cost(0.0), abs=1e-5)


def test_draws_of_a_crop_differ_only_in_noise_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    objective: Any = made("flow", draws=3, p_one=0.0)
    seen: list[Any] = []

    def velocity(latent: torch.Tensor, condition: torch.Tensor, tokens: Any, time: torch.Tensor) -> torch.Tensor:
        seen.append((latent, condition, tokens, time))
        return latent

    monkeypatch.setattr(objective.parts.latent.transformer, "forward", velocity)
    with torch.no_grad():
        objective.loss(batch())
    ((latent, condition, tokens, time),) = seen
    assert len(latent) == len(time) == len(tokens.mask_BL) == 3 * len(batch().prompts)
    for one, other in (condition[:4], condition[4:8]), (condition[:4], condition[8:]):
        assert torch.equal(one, other)
    assert len(set(time.tolist())) == 12
    assert not torch.equal(latent[:4], latent[4:8])


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # raised within torch, which filters it itself
def test_new_wordings_do_not_trigger_a_recompilation() -> None:
    """Prompts vary in length, and one compiled graph must serve all of them."""
    objective = made("refiner")
    graphs: list[Any] = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    loss = torch.compile(objective.loss, backend=backend)
    for number, kinds in enumerate([("noise",), ("noise", "colour"), ("blur",), (), DEGRADED]):
        given = replace(asking(batch(number), *[Request.of(*kinds)] * 4), number=number)
        torch.testing.assert_close(loss(given), objective.loss(given))
        if number == 1:
            known = len(graphs)
    assert known
    assert len(graphs) == known


def test_a_reader_learns_its_wordings_and_keeps_the_embeddings() -> None:
    """Training the reader changes no embedding that a refiner depends on."""
    objective: Any = made("wording")
    reader, prompts = objective.parts.reader, objective.parts.prompts
    texts, wanted = [each.text for each in WORDINGS], [each.request for each in WORDINGS]
    before = prompts(batch().prompts, list(ASKED.values())).token_BLD.clone()
    assert reader.read(texts) != wanted
    optimizer = torch.optim.AdamW(objective.modules.parameters(), 1e-2)
    for _ in range(40):
        loss = objective.loss(batch())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    reader.eval()
    assert reader.read(texts) == wanted
    assert reader.read([text.upper() for text in texts]) == wanted
    assert torch.equal(prompts(batch().prompts, list(ASKED.values())).token_BLD, before)


def test_the_reader_loss_sums_all_kinds_and_the_understood_term() -> None:
    objective: Any = made("wording")
    reader = objective.parts.reader.eval()
    expected = 0.0
    for wording in WORDINGS:
        (said_K3,), (understood,) = reader([folded(wording.text)])
        for place, kind in enumerate(DEGRADED):
            answer = 1 if kind in wording.removed else 2 if kind in wording.kept else 0
            expected -= said_K3[place].log_softmax(dim=0)[answer].item()
        chance = understood.sigmoid()
        expected -= (chance if wording.understood else 1 - chance).log().item()
    assert objective.loss(batch()).item() == pytest.approx(expected / len(WORDINGS), rel=1e-4)
    with torch.no_grad():
        for parameter in (*reader.end.parameters(), *reader.word.parameters()):
            parameter.zero_()
    assert objective.loss(batch()).item() == pytest.approx(6 * np.log(3) + np.log(2), rel=1e-4), (
        "a uniform reader has the entropy of its answers"
    )


def test_the_reader_loss_does_not_depend_on_grouping_or_order(monkeypatch: pytest.MonkeyPatch) -> None:
    objective: Any = made("wording")
    objective.parts.reader.eval()
    many = replace(batch(), wordings=WORDINGS * 3)
    whole = objective.loss(many).item()
    monkeypatch.setattr("sanarestore.training.refining.AT_ONCE", 5)
    assert objective.loss(many).item() == pytest.approx(whole, rel=1e-4)
    assert objective.loss(replace(many, wordings=many.wordings[::-1])).item() == pytest.approx(whole, rel=1e-4)


def test_training_a_reader_for_an_adapter_is_refused(tmp_path: Path, base: str) -> None:
    made("wording").save(tmp_path / "model", RECIPE, {})
    with pytest.raises(UsageError, match=r"--lora: .*'wording' is not learnt by low-rank"):
        new_objective(replace(RECIPE, objective="wording"), Start(base=str(tmp_path / "model"), rank=2))
    with pytest.raises(UsageError, match="condition untrained"):
        new_objective(replace(RECIPE, objective="wording"), Start(base=base))


def test_the_request_decides_the_refiners_requested_corrections() -> None:
    """Prompts of pairs without a known request are read first."""
    objective: Any = made("refiner")
    whole = objective._whole(batch())
    assert whole.asked_B2.tolist() == [[0, 0], [1, 0], [0, 1], [0, 0]]
    assert torch.equal(whole.statistics_BK, batch().statistics_BK)
    read = replace(batch(), prompts=[Request.of("lowlight", "colour").plain] * 4, requests=(None,) * 4)
    assert objective._whole(read).asked_B2.tolist() == [[1, 1]] * 4


def test_prompts_with_the_same_request_give_the_same_result() -> None:
    objective: Any = made("refiner")
    with torch.no_grad():
        for parameter in objective.modules.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        said = objective.restore(replace(batch(), prompts=["so grainy!", "BRIGHTER", "Farbstich weg", "go on"]))
        assert torch.equal(said, objective.restore(batch()))
        other = objective.restore(asking(batch(), *[Request.of("blur")] * 4))
    assert (other - said).abs().max() > 1e-4


def learn(objective: Any, given: Batch) -> None:
    """Train an objective on one batch for 40 steps."""
    optimizer = torch.optim.AdamW(objective.modules.parameters(), 1e-2)
    for _ in range(40):
        loss = objective.loss(given)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("by", ["features", "prompt"])
def test_a_router_learns_to_choose_the_best_refiner(by: str) -> None:
    """Cases differ either in their routing features (noisy or clean) or in their prompts."""
    objective: Any = made("router")
    parts = objective.parts
    one, other = (Request(), Request()) if by == "features" else (Request.of("noise"), Request.of("jpeg"))
    clean = torch.stack([torch.from_numpy(photo(64, 64, seed)).permute(2, 0, 1) for seed in range(2)])
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    degraded = torch.cat([noisy, clean if by == "features" else noisy])
    given = replace(asking(batch(), one, one, other, other), degraded_BCHW=degraded)
    prompt_BD = objective._prompts(given)
    with torch.no_grad():
        # Each target is one expert's own result, so no other refiner can come as near.
        wanted = torch.cat([
            parts.experts.refiner(name, parts.refiner)(degraded[two], degraded[two], prompt_BD[two])
            for name, two in (("noise", slice(0, 2)), ("jpeg", slice(2, 4)))
        ])  # fmt: skip
    # Train twice as long, because an untrained encoder's prompts are nearly alike.
    for _ in range(2):
        learn(objective, replace(given, target_BCHW=wanted))
    objective.modules.eval()
    features_BK = objective._features(given)
    asked = [request.removes for request in given.requests]
    shares = [parts.experts.shares(*each) for each in zip(features_BK, prompt_BD, asked, strict=True)]
    assert shares == [{"noise": 1.0}] * 2 + [{"jpeg": 1.0}] * 2
    with torch.no_grad():
        torch.testing.assert_close(objective.restore(given), wanted, atol=1e-5, rtol=0)


def test_a_router_learns_to_mix_when_a_mixture_is_best() -> None:
    objective: Any = made("router")
    parts, given = objective.parts, asking(batch(), *[Request.of("noise")] * 4)
    prompt_BD = objective._prompts(given)
    with torch.no_grad():
        results = [
            refiner(given.degraded_BCHW, given.degraded_BCHW, prompt_BD).clamp(0, 1)
            for refiner in (parts.refiner, parts.experts.refiner("noise", parts.refiner))
        ]
    learn(objective, replace(given, target_BCHW=(results[0] + results[1]) / 2))
    logit_BE = parts.experts.router(objective._features(given), prompt_BD)[:, :2]
    torch.testing.assert_close(logit_BE.softmax(dim=1), torch.full_like(logit_BE, 0.5), rtol=0, atol=0.1)
    for each in zip(objective._features(given), prompt_BD, strict=True):
        assert parts.experts.shares(*each, ["noise"]).keys() == {None, "noise"}


def test_a_router_restores_by_the_weighted_mean_of_results() -> None:
    objective: Any = made("router")
    parts, given = objective.parts, batch()
    given = replace(given, requests=(Request(),) * len(given.prompts))
    with torch.no_grad():
        parts.experts.router.choice.weight.zero_()
        parts.experts.router.choice.bias.copy_(torch.tensor([0.5, 1.0, -9.0]))
        shares = parts.experts.shares(objective._features(given)[0], objective._prompts(given)[0])
        refiners = {None: parts.refiner, "noise": parts.experts.refiner("noise", parts.refiner)}
        assert shares.keys() == refiners.keys()
        expected = sum(
            shares[name]
            * refiner(given.degraded_BCHW, given.degraded_BCHW, objective._prompts(given), objective._whole(given))
            for name, refiner in refiners.items()
        )
        torch.testing.assert_close(objective.restore(given), expected, atol=1e-5, rtol=0)


def test_the_router_loss_is_the_error_of_the_mixture_in_decibels() -> None:
    """The loss covers the centre of the image and the refiners that match the request."""
    objective: Any = made("router", loss_floor=1e-5)
    noise, any_kind = Request.of("noise"), Request()
    parts, given = objective.parts, asking(batch(), noise, noise, any_kind, any_kind)
    prompt_BD = objective._prompts(given)
    refiners = [parts.refiner, *(parts.experts.refiner(name, parts.refiner) for name in ("noise", "jpeg"))]
    logits = torch.tensor([0.5, 1.0, -0.5])
    with torch.no_grad():
        parts.experts.router.choice.weight.zero_()
        parts.experts.router.choice.bias.copy_(logits)
        middle_BCHW = given.degraded_BCHW[:, :, 16:48, 16:48]
        results = [
            refiner(middle_BCHW, middle_BCHW, prompt_BD, objective._whole(given)).clamp(0, 1) for refiner in refiners
        ]
        of_noise, of_all = torch.tensor([*logits[:2].softmax(dim=0), 0.0]), logits.softmax(dim=0)
        share_BE = torch.stack([of_noise, of_noise, of_all, of_all])
        mixed = (share_BE[:, :, None, None, None] * torch.stack(results, dim=1)).sum(dim=1)
        squared_B = (mixed - given.target_BCHW[:, :, 16:48, 16:48]).square().mean(dim=(1, 2, 3))
        assert objective.loss(given).item() == pytest.approx(decibels(squared_B, 1e-5).mean().item(), abs=1e-4)
    assert (results[1] - results[2]).abs().max() > 0.01


def test_a_router_without_experts_is_refused() -> None:
    with pytest.raises(UsageError, match="no experts to choose from"):
        new_objective(replace(RECIPE, objective="router"))


def test_experts_are_dropped_when_their_refiner_is_trained_again(tmp_path: Path) -> None:
    """Experts stay in the model while its refiner is unchanged."""
    made("router").save(tmp_path / "model", RECIPE, {})
    for name in OBJECTIVES:
        objective = new_objective(replace(RECIPE, objective=name), Start(base=str(tmp_path / "model")))
        objective.save(tmp_path / name, RECIPE, {})
        kept = load_model(str(tmp_path / name)).experts
        assert (kept is None) == ("owned" in TRAINED[name]), name
        assert kept is None or kept.names == ("noise", "jpeg")


def test_a_router_loads_the_experts_named_in_the_recipe(tmp_path: Path) -> None:
    base = str(tmp_path / "base")
    made("refiner").save(tmp_path / "base", RECIPE, {})
    for kind in ("noise", "jpeg"):
        expert: Any = new_objective(replace(RECIPE, objective="expert"), Start(base=base))
        torch.manual_seed(len(kind))
        for parameter in expert.modules.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
        expert.save(tmp_path / kind, RECIPE, {})
    named = {kind: str(tmp_path / kind) for kind in ("noise", "jpeg")}
    new_objective(replace(RECIPE, objective="router", experts=named), Start(base=base)).save(
        tmp_path / "model", RECIPE, {}
    )
    model = load_model(str(tmp_path / "model"))
    assert model.experts
    assert model.experts.names == ("noise", "jpeg")
    for kind in named:
        trained, found = load_model(named[kind]).refiner, model.experts.refiner(kind, model.refiner)
        for key, tensor in trained.state_dict().items():
            torch.testing.assert_close(found.state_dict()[key], tensor, atol=2e-3, rtol=0)
        assert not torch.equal(found.stem.weight, model.refiner.stem.weight)


def test_training_a_missing_colour_correction_is_refused() -> None:
    with pytest.raises(UsageError, match="no global colour correction to train"):
        made("colour-correction", model=replace(RECIPE.model, colour_correction=0))


def test_a_new_colour_correction_is_normalised_by_the_samples_and_keeps_all_other_weights(
    tmp_path: Path, photos: list[Path]
) -> None:
    made("colour-correction").save(tmp_path / "base", RECIPE, {})
    lines = {"colour:0.2": 1.0}
    recipe = replace(
        RECIPE, objective="colour-correction", new_colour_correction=True, patch=16, degradations=lines, steps=1,
        batch=8, model=replace(RECIPE.model, colour_correction=6, colour_statistics=52),
    )  # fmt: skip
    objective = new_objective(recipe, Start(base=str(tmp_path / "base")))
    assert isinstance(objective, ColourCorrectionObjective)
    samples = OverviewSamples(photos, recipe)
    objective.prepare(samples)
    found = torch.stack([samples[index]["statistics"] for index in range(8)])
    objective.save(tmp_path / "renewed", recipe, {})
    before, after = (load_model(str(tmp_path / name)).refiner for name in ("base", "renewed"))
    assert after.config == replace(
        before.config, colour_correction=6, colour_statistics=52, colour_normalised=True
    )  # fmt: skip
    assert after.colour_correction
    assert after.colour_correction.centre is not None
    torch.testing.assert_close(after.colour_correction.centre, found.mean(dim=0), atol=2e-3, rtol=0)
    for name, tensor in after.state_dict().items():
        assert name.startswith("colour_correction.") or torch.equal(tensor, before.state_dict()[name]), name
    again = new_objective(replace(recipe, new_colour_correction=False), Start(base=str(tmp_path / "renewed")))
    assert isinstance(again, ColourCorrectionObjective)
    again.prepare(OverviewSamples(photos[:1], recipe))
    kept = again.parts.refiner.colour_correction
    assert kept
    assert torch.equal(kept.centre, after.colour_correction.centre), "a run that goes on keeps the normalisation"  # type: ignore[arg-type]


def test_harm_weighs_what_a_correction_makes_worse_beside_the_loss() -> None:
    """One photograph needs the correction, and another one gets worse by it."""
    gentle, strict = (made("colour-correction", harm_weight=weight, loss_floor=1e-6) for weight in (0.0, 3.0))
    for objective in (gentle, strict):
        objective.parts.refiner.colour_correction.curve.bias.data[3:] = 0.1
    degraded = torch.full((2, 3, 16, 16), 0.4)
    target = torch.stack([degraded[0] + 0.1, degraded[1] + 0.01])
    asked = Request.of("colour")
    pair = replace(
        batch(), degraded_BCHW=degraded, target_BCHW=target, statistics_BK=batch().statistics_BK[:2],
        prompts=[asked.plain] * 2, requests=(asked,) * 2,
    )  # fmt: skip
    harm = (20 * math.log10(0.09 / 0.01)) / 2
    # Float32 leaves a little of what is put right, hence the floor of 1e-6.
    with torch.no_grad():
        found = float(strict.loss(pair) - gentle.loss(pair))
    assert found == pytest.approx(3 * harm, rel=0.01)


def test_crops_that_do_not_fit_the_refiner_are_refused() -> None:
    with pytest.raises(UsageError, match=r"crops of 60 px.*multiple of 8"):
        made("refiner", patch=60)


def test_the_autoencoder_objective_restores_by_reconstruction() -> None:
    objective = made("autoencoder")
    assert isinstance(objective, AutoencoderObjective)
    latent = objective.parts.latent
    assert latent is not None
    with torch.no_grad():
        expected = latent.autoencoder.decode(latent.autoencoder.encode(batch().target_BCHW))
        assert torch.equal(objective.restore(batch()), expected)


@pytest.mark.usefixtures("without_margin")
@pytest.mark.parametrize("kind", KINDS)
def test_the_engine_matches_restoration_in_training(kind: ConditionKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given the same noise, the engine and validation agree in every pixel."""
    objective: Any = made("end-to-end", latent=replace(RECIPE.latent, condition=kind))
    objective.modules.eval()
    with torch.no_grad():
        for parameter in objective.modules.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        one = asking(first_of(batch()), asked := Request.of("noise", "colour"))
        generated = generate(objective.parts.latent, one, objective._tokens(one), seed=RECIPE.seed)
        restored = objective.restore(one)
    parts = objective.parts
    shape = (1, parts.latent.autoencoder.latent_channels, 2, 2)
    noise = drawn_noise(RECIPE.seed, one.numbers, shape[1:])
    monkeypatch.setattr("sanarestore.engine.generation.noise_field", lambda *_: lambda _number: noise)
    model = RestorationModel(
        name="trained", folder=Path(), refiner=parts.refiner, load_latent=lambda: parts.latent, fingerprint="",
        prompts=parts.prompts.prompts, defaults={"prompt": asked.plain, "steps": 1},
    )  # fmt: skip
    image = images.Image(
        pixels_HWC=one.degraded_BCHW[0].permute(1, 2, 0).contiguous().numpy(), depth="float32", format="tiff"
    )
    for fidelity, expected in ((0.0, generated), (1.0, restored)):
        options = RestoreOptions(fidelity=fidelity)
        result = Restorer(options, device="cpu", model=model)(image).pixels_HWC
        assert torch.allclose(torch.from_numpy(result).permute(2, 0, 1), expected[0], atol=1e-5), fidelity
    assert (generated - restored).abs().max() > 1e-3


def test_noise_depends_on_seed_and_number_only() -> None:
    first, repeated, other, later = (
        drawn_noise(seed, [number], (8, 2, 2)) for seed, number in ((0, 0), (0, 0), (1, 0), (0, 1))
    )
    assert torch.equal(first, repeated)
    assert not torch.equal(first, other)
    assert not torch.equal(first, later)


def test_a_latent_path_of_the_base_is_kept(tmp_path: Path) -> None:
    made("flow").save(tmp_path / "model", RECIPE, {})
    later = replace(RECIPE, objective="end-to-end", latent=LatentShape(layers=3))
    objective: Any = new_objective(later, Start(base=str(tmp_path / "model")))
    assert objective.parts.latent.transformer.config.num_layers == 1
    refining: Any = new_objective(replace(RECIPE, objective="refiner"), Start(base=str(tmp_path / "model")))
    assert refining.parts.latent is not None
    assert torch.equal(refining.restore(batch()), batch().degraded_BCHW), (
        "a latent path that is off in the model is off in training"
    )
    made("end-to-end").save(tmp_path / "whole", RECIPE, {})
    refining = new_objective(replace(RECIPE, objective="refiner"), Start(base=str(tmp_path / "whole")))
    torch.nn.init.zeros_(refining.parts.refiner.head.weight)
    before = refining.restore(batch())
    with torch.no_grad():
        tokens = refining._tokens(batch())
        generated = generate(refining.parts.latent, batch(), tokens, seed=RECIPE.seed)
    assert torch.equal(before, generated), "an untrained refiner returns the generated image"


@pytest.fixture
def base(tmp_path: Path, encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "cache")
    return str(write_published(tmp_path / "base", encoder))


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize(("name", "kind"), [("flow", "patch-embed"), ("end-to-end", "projection")])
def test_training_on_a_published_base_saves_an_adapter(
    name: str, kind: ConditionKind, rank: int | None, base: str, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, objective=name, latent=replace(RECIPE.latent, condition=kind))
    objective: Any = new_objective(recipe, Start(base=base, rank=rank))
    objective.to(torch.device("cpu"))
    frozen = {key: tensor.clone() for key, tensor in objective.parts.latent.autoencoder.state_dict().items()}
    objective.loss(batch()).backward()
    objective.modules.eval()
    with torch.no_grad():
        for parameter in objective.modules.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    objective.save(tmp_path / "adapter", recipe, {})
    after = objective.parts.latent.autoencoder.state_dict()
    assert all(torch.equal(after[key], tensor) for key, tensor in frozen.items()), (
        "an adapter does not train the autoencoder"
    )

    model = load_model(adapter=str(tmp_path / "adapter"))
    assert model.latent is not None
    assert model.latent.transformer.condition.kind == kind
    refiner = objective.parts.refiner.state_dict()
    assert all(torch.equal(tensor, refiner[key].half().float()) for key, tensor in model.refiner.state_dict().items())
    given = batch()
    tokens = Tokens.of(embedded(model, given))
    with torch.no_grad():
        expected = generate(objective.parts.latent, given, objective._tokens(given), seed=0)
        assert torch.allclose(generate(model.latent, given, tokens, seed=0), expected, atol=1e-4 if rank else 1e-2)
    index = json.loads((tmp_path / "adapter/adapter.json").read_text())
    assert index["base"] == base
    assert index["change"] == ("lora" if rank else "full")
    assert index["licence"] == "some-weights-licence"


@pytest.mark.parametrize("name", ["refiner", "autoencoder"])
def test_an_adapter_without_a_trained_condition_is_refused(name: str, base: str) -> None:
    with pytest.raises(UsageError, match="condition untrained"):
        new_objective(replace(RECIPE, objective=name), Start(base=base))


@pytest.mark.parametrize("name", ["refiner", "flow", "end-to-end"])
def test_an_adapter_can_be_trained_on_our_own_model(name: str, tmp_path: Path) -> None:
    made("end-to-end").save(tmp_path / "base", RECIPE, {})
    before = {path: path.read_bytes() for path in (tmp_path / "base").rglob("*") if path.is_file()}
    # This recipe asks for a larger refiner, but an adapter changes existing weights only.
    grown = replace(
        RECIPE.model, colour_correction=RECIPE.model.colour_correction + 8, spectrum=RECIPE.model.spectrum + 2
    )
    objective: Any = new_objective(
        replace(RECIPE, objective=name, model=grown), Start(base=str(tmp_path / "base"), rank=2)
    )
    objective.to(torch.device("cpu"))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in objective.modules.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    objective.save(tmp_path / "adapter", RECIPE, {})
    model = load_model(adapter=str(tmp_path / "adapter"))
    whole = restored_by(model)
    assert model.latent is not None
    assert (tmp_path / "adapter/refiner_lora.safetensors").is_file() == (name == "refiner")
    assert (tmp_path / "adapter/pytorch_lora_weights.safetensors").is_file() == (name != "refiner")
    with torch.no_grad():
        given = batch()
        tokens = objective._tokens(given)
        generated = generate(objective.parts.latent, given, tokens, seed=0)
        expected = objective._refined(given, generated, tokens)
    assert torch.allclose(whole, expected, atol=2e-2 if name == "end-to-end" else 3e-3), (
        "weights are stored in half precision"
    )
    assert before == {path: path.read_bytes() for path in before}


def embedded(model: RestorationModel, given: Batch) -> list[torch.Tensor]:
    """Return the embeddings that the networks receive for the prompts of a batch."""
    pairs = zip(given.prompts, given.requests, strict=True)
    return [model.prompts.tokens(model.prompts.wording(prompt, request)) for prompt, request in pairs if request]


def restored_by(model: RestorationModel) -> torch.Tensor:
    """Run the degraded images through the latent path in one step and refine the result."""
    given, path = batch(), model.latent
    rows = embedded(model, given)
    prompt_BD = torch.stack([token_LD.mean(dim=0) for token_LD in rows])
    asked = torch.tensor([[float(each.is_lit), float(each.is_coloured)] for each in ASKED.values()])
    assert path is not None
    with torch.no_grad():
        generated = generate(path, given, Tokens.of(rows), seed=0)
        whole = WholePhoto(statistics_BK=given.statistics_BK, asked_B2=asked)
        restored: torch.Tensor = model.refiner(given.degraded_BCHW, generated, prompt_BD, whole)
    return restored


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("autoencoder", "'autoencoder' is not learnt by low-rank"),
        ("flow", "no transformer"),
        ("colour-correction", "'colour-correction'"),
    ],
)
def test_lora_is_refused_for_objectives_that_do_not_support_it(name: str, message: str, tmp_path: Path) -> None:
    made("refiner").save(tmp_path / "base", RECIPE, {})
    with pytest.raises(UsageError, match=rf"--lora: .*{message}"):
        new_objective(replace(RECIPE, objective=name), Start(base=str(tmp_path / "base"), rank=4))
    with pytest.raises(UsageError, match="--lora: fresh weights"):
        new_objective(replace(RECIPE, objective=name), Start(rank=4))


def test_the_encoder_of_a_base_is_loaded_once(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[Path] = []
    load = base_module.load_encoder

    def recorded(folder: Path) -> PromptEncoder:
        loads.append(folder)
        return load(folder)

    monkeypatch.setattr(base_module, "load_encoder", recorded)
    objective: Any = new_objective(replace(RECIPE, objective="flow"), Start(base=base))
    for prompt in ("remove noise", "remove the noise", "take the noise away", "remove noise"):
        objective.loss(replace(batch(), prompts=[prompt] * 4, requests=(Request.of("noise"),) * 4))
    assert len(loads) == 1


def test_tiles_are_trained_as_the_causal_scheme_samples() -> None:
    """The velocities are those of the runner, and every weight of the transformer gets a gradient."""
    recipe = replace(RECIPE, objective="flow", tiles=2, patch=128, p_one=1.0)
    objective: Any = new_objective(recipe)
    one = replace(
        first_of(batch()), degraded_BCHW=torch.rand(1, 3, 128, 128), target_BCHW=torch.rand(1, 3, 128, 128)
    )  # fmt: skip
    latent, tokens = objective.parts.path, objective._tokens(one)
    condition = latent.autoencoder.encode(one.degraded_BCHW)
    noise = drawn_noise(3, one.numbers, condition.shape[1:])
    velocity = objective._predicted(noise, condition, tokens, torch.ones(1))
    sampled = causal(latent.transformer, condition, tokens, tile=3, overlap=1)(noise, 1.0)
    assert torch.allclose(velocity, sampled, atol=1e-5)
    whole = latent.transformer(noise, condition, tokens, torch.ones(1))
    assert not torch.allclose(velocity, whole, atol=1e-4)
    objective.loss(one).backward()
    assert all(parameter.grad is not None for parameter in latent.transformer.transformer.parameters())
