"""Every objective trains what it says and nothing else, learns, and is saved as a model that restores."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sanarestore import images
from sanarestore.degradations.wordings import KINDS as DEGRADED
from sanarestore.degradations.wordings import plain
from sanarestore.engine.restorer import Restorer
from sanarestore.errors import UsageError
from sanarestore.model import base as base_module
from sanarestore.model.condition import KINDS, ConditionKind
from sanarestore.model.experts import Experts
from sanarestore.model.loading import RestorationModel, load_model
from sanarestore.model.prompts import PromptEncoder, Prompts, pool
from sanarestore.model.tone import overview, tone_statistics
from sanarestore.model.transformer import Tokens
from sanarestore.options import RestoreOptions
from sanarestore.training.data import Batch
from sanarestore.training.generating import AutoencoderObjective, drawn_noise, generate
from sanarestore.training.objective import Objective
from sanarestore.training.objectives import new_objective
from sanarestore.training.parts import Parts
from sanarestore.training.recipe import LATENT_OBJECTIVES, OBJECTIVES, LatentShape, Recipe
from sanarestore.training.refining import RouterObjective
from tests.conftest import photo
from tests.published import TINY_RECIPE as RECIPE
from tests.published import write_published


def batch(number: int = 0) -> Batch:
    clean = torch.stack([torch.from_numpy(photo(64, 64, seed)).permute(2, 0, 1) for seed in range(4)])
    noise = 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(number))
    tone = torch.stack([tone_statistics(overview(image)) for image in clean + noise])
    return Batch(
        degraded_BCHW=clean + noise, target_BCHW=clean, tone_BK=tone, prompts=["remove noise"] * 4, number=number,
        meanings=("deblur",) * 4,
    )  # fmt: skip


def made(name: str, **changes: Any) -> Objective:
    recipe = replace(RECIPE, objective=name, **changes)
    objective = routed(recipe) if name == "router" else new_objective(recipe)
    objective.to(torch.device("cpu"))
    return objective


def routed(recipe: Recipe) -> Objective:
    """A router between a fresh refiner and experts for noise and JPEG that each do something else."""
    parts = Parts.from_scratch(recipe)
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
    found = {"owned": owned, "middle": parts.refiner.middle, "tone": parts.refiner.tone, "text_encoder": parts.encoder}
    if parts.experts:
        found["router"] = parts.experts.router
    if parts.latent:
        autoencoder = parts.latent.autoencoder
        found |= {"transformer": parts.latent.transformer.transformer, "condition": parts.latent.transformer.condition}
        found |= {"encoder": autoencoder.encoder, "decoder": autoencoder.decoder}
    return found


UNSEEN = ("wording", "autoencoder", "flow", "router")
"""What these train shows in no picture of a model whose refiner, or whose use of the latent path, is fresh."""

TRAINED = {
    "tone": {"tone"},
    "refiner": {"owned", "middle", "tone", "text_encoder"},
    "wording": {"text_encoder"},
    "expert": {"owned"},
    "router": {"router"},
    "autoencoder": {"encoder", "decoder"},
    "flow": {"transformer", "condition"},
    "end-to-end": {"owned", "middle", "tone", "text_encoder", "transformer", "condition", "decoder"},
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_trains_what_it_says_and_nothing_else(name: str) -> None:
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
    # A refiner begins with a head of zeros, through which nothing reaches what lies before it.
    assert moved >= TRAINED[name] - ({"text_encoder", "middle"} if "owned" in TRAINED[name] else set())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_learns_one_batch(name: str) -> None:
    objective = made(name)
    # An autoencoder begins near where it ends, and is thrown off by large steps.
    optimizer = torch.optim.AdamW(objective.modules.parameters(), 5e-4 if name == "autoencoder" else 3e-3)
    losses = []
    for _ in range(40):
        loss = objective.loss(batch())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    # A squared error for the flow, a share of what sets wordings apart, decibels for the others; the refiner begins at
    # the identity, slowly.
    least = {"flow": 0.1, "wording": 0.1, "refiner": 0.1, "expert": 0.1, "router": 0.3, "tone": 0.3}.get(name, 1.0)
    assert losses[-1] < losses[0] - least, losses


@pytest.mark.parametrize("name", LATENT_OBJECTIVES)
def test_a_loss_is_a_function_of_the_batch(name: str) -> None:
    """Whatever was drawn before: or resuming would not be exact."""
    objective = made(name)
    first = objective.loss(batch()).item()
    torch.randn(7)
    assert objective.loss(batch()).item() == first
    assert objective.loss(replace(batch(), number=1)).item() != first or name == "autoencoder"


@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_is_saved_restores_as_in_training(name: str, tmp_path: Path) -> None:
    objective = made(name)
    with torch.no_grad():
        for parameter in objective.modules.parameters():
            parameter.copy_((parameter + 0.02 * torch.randn_like(parameter)).half())
    objective.save(tmp_path / "model", RECIPE, {})
    model = load_model(str(tmp_path / "model"))
    assert (model.latent is not None) == (name in LATENT_OBJECTIVES)
    assert bool(model.defaults.get("latent")) == (name == "end-to-end")
    one = replace(
        batch(), degraded_BCHW=batch().degraded_BCHW[:1], tone_BK=batch().tone_BK[:1], prompts=["remove noise"]
    )
    image = images.Image(
        pixels_HWC=one.degraded_BCHW[0].permute(1, 2, 0).contiguous().numpy(), depth="float32", format="tiff"
    )
    restored = Restorer(RestoreOptions(prompt="remove noise"), device="cpu", model=model)(image)
    assert np.abs(restored.pixels_HWC - image.pixels_HWC).max() > 1e-4 or name in UNSEEN
    if name in ("refiner", "router"):
        objective.modules.eval()
        with torch.no_grad():
            expected = objective.restore(one)[0].permute(1, 2, 0)
        assert torch.allclose(torch.from_numpy(restored.pixels_HWC), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["flow", "end-to-end"])
def test_seeds_that_disagree_cost_what_the_recipe_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And those that agree cost nothing: a transformer that gives the condition back whatever the noise."""

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


def test_draws_of_a_crop_differ_in_nothing_but_noise_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch's own, which it hides by a filter
def test_new_wordings_are_no_reason_to_compile_again() -> None:
    """Prompts are of any words, and what is compiled once must do for all."""
    objective = made("refiner")
    graphs: list[Any] = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    loss = torch.compile(objective.loss, backend=backend)
    for number, prompt in enumerate(["remove noise", "please take away the grain", "deblur", "x", "make it larger"]):
        given = replace(batch(number), prompts=[prompt] * 4, number=number)
        torch.testing.assert_close(loss(given), objective.loss(given))
        if number == 1:
            known = len(graphs)
    assert known
    assert len(graphs) == known


def test_wordings_come_to_mean_what_their_plain_ones_meant() -> None:
    objective: Any = made("wording")
    encoder = objective.parts.encoder
    with torch.no_grad():
        meant = {kind: encoder.pooled([plain((kind,))])[0] for kind in DEGRADED}
    wordings = {"noise": "so grainy", "blur": "out of focus", "colour": "too yellow"}

    def understood() -> int:
        with torch.no_grad():
            told = {kind: encoder.pooled([wording])[0] for kind, wording in wordings.items()}
        nearest = {kind: min(meant, key=lambda each: float((meant[each] - told[kind]).norm())) for kind in told}
        return sum(kind == found for kind, found in nearest.items())

    assert understood() < 3
    optimizer = torch.optim.AdamW(objective.modules.parameters(), 3e-3)
    plainly = [plain((kind,)) for kind in DEGRADED]
    told = [*wordings.values(), *plainly]
    learnt = replace(batch(), prompts=told, meanings=(*(plain((kind,)) for kind in wordings), *plainly))
    for _ in range(60):
        loss = objective.loss(learnt)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert understood() == 3
    with torch.no_grad():
        kept = objective.loss(replace(learnt, prompts=plainly, meanings=tuple(plainly))).item()
    assert kept < 0.1, "nor are the plain ones forgotten"


def test_a_loss_of_1_is_a_wording_that_says_nothing() -> None:
    objective: Any = made("wording")
    with torch.no_grad():
        plainly = [plain((kind,)) for kind in DEGRADED]
        told = replace(batch(), prompts=plainly, meanings=tuple(plainly))
        assert objective.loss(told).item() == pytest.approx(0, abs=1e-6)
        mean_D = objective.parts.encoder.pooled(plainly).mean(dim=0)
        mask_BL = torch.ones(len(plainly), 1)
        objective.parts.encoder.forward = lambda _: (mean_D.expand(len(plainly), 1, -1), mask_BL)
        # Of a sample's variance the mean's distance is (n - 1) / n.
        loss = objective.loss(told).item()
    assert loss == pytest.approx((len(DEGRADED) - 1) / len(DEGRADED), rel=1e-4)


def learn(objective: Any, given: Batch) -> None:
    """As much of one batch as there is in it for a router."""
    optimizer = torch.optim.AdamW(objective.modules.parameters(), 1e-2)
    for _ in range(60):
        loss = objective.loss(given)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_a_router_comes_to_send_each_to_whom_restores_it_best() -> None:
    """By the evidence, and by the prompt where that says that something else is wanted."""
    objective: Any = made("router")
    parts = objective.parts
    clean = torch.stack([torch.from_numpy(photo(64, 64, seed)).permute(2, 0, 1) for seed in range(4)])
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    degraded, tone_BK = torch.cat([noisy, clean, noisy]), batch().tone_BK.repeat(3, 1)
    # The same photographs are others' where the prompt asks for something else.
    prompts = ["remove noise"] * 8 + ["deblur"] * 4
    prompt_BD = pool(*parts.encoder(prompts)).detach()
    refiners = [parts.experts.refiner(name, parts.refiner) for name in ("noise", "jpeg")]
    with torch.no_grad():
        # Wanted is what one of the three makes of each, so that nobody else's comes as near.
        wanted = torch.cat([
            refiner(degraded_BCHW, degraded_BCHW, told_BD, batch().tone_BK)
            for refiner, degraded_BCHW, told_BD in zip(
                [*refiners, parts.refiner], degraded.split(4), prompt_BD.split(4), strict=True
            )
        ])  # fmt: skip
    given = Batch(degraded_BCHW=degraded, target_BCHW=wanted, tone_BK=tone_BK, prompts=prompts)
    learn(objective, given)
    objective.modules.eval()
    with torch.no_grad():
        torch.testing.assert_close(objective.restore(given), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("errors", "chosen"), [((-0.1, -0.1, -0.1, 1.0), None), ((0.1, 0.1, 0.1, -1.0), "noise")])
def test_a_router_prefers_what_is_better_on_average_not_more_often(
    errors: tuple[float, ...], chosen: str | None
) -> None:
    """Four images that look alike, three of which the expert for noise restores a little better, or worse."""
    objective: Any = made("router")
    given = replace(batch(), degraded_BCHW=batch().degraded_BCHW[:1].expand(4, -1, -1, -1))
    objective._errors = lambda *_: torch.tensor([[0.0, error, 2.0] for error in errors])
    learn(objective, given)
    assert objective.parts.experts.choose(objective._evidence(given)[0], objective._prompts(given)[0]) == chosen


def test_the_errors_are_those_of_each_refiner_in_decibels() -> None:
    """In the middle of the image."""
    objective: Any = made("router", loss_floor=0.0)
    parts, given = objective.parts, batch()
    prompt_BD = pool(*parts.encoder(given.prompts))
    refiners = [parts.refiner, *(parts.experts.refiner(name, parts.refiner) for name in ("noise", "jpeg"))]
    found_BE = objective._errors(given, prompt_BD)
    middle_BCHW = given.degraded_BCHW[:, :, 16:48, 16:48]
    for refiner, found_B in zip(refiners, found_BE.T, strict=True):
        restored = refiner(middle_BCHW, middle_BCHW, prompt_BD, given.tone_BK).clamp(0, 1)
        squared_B = (restored - given.target_BCHW[:, :, 16:48, 16:48]).square().mean(dim=(1, 2, 3))
        torch.testing.assert_close(found_B, 10 * squared_B.log10(), atol=1e-4, rtol=0)
    assert found_BE.std(dim=1).min() > 0.01


def test_a_router_has_nobody_to_choose_from_without_experts() -> None:
    with pytest.raises(UsageError, match="no experts to choose from"):
        new_objective(replace(RECIPE, objective="router"))


def test_experts_are_those_of_the_refiner_that_they_changed(tmp_path: Path) -> None:
    """They come along while it stays as it is, and are gone once it is trained again."""
    made("router").save(tmp_path / "model", RECIPE, {})
    for name in OBJECTIVES:
        objective = new_objective(replace(RECIPE, objective=name), str(tmp_path / "model"))
        objective.save(tmp_path / name, RECIPE, {})
        kept = load_model(str(tmp_path / name)).experts
        assert (kept is None) == ("owned" in TRAINED[name]), name
        assert kept is None or kept.names == ("noise", "jpeg")


def test_experts_are_found_by_the_names_that_the_recipe_gives(tmp_path: Path) -> None:
    base = str(tmp_path / "base")
    made("refiner").save(tmp_path / "base", RECIPE, {})
    for kind in ("noise", "jpeg"):
        expert: Any = new_objective(replace(RECIPE, objective="expert"), base)
        torch.manual_seed(len(kind))
        for parameter in expert.modules.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
        expert.save(tmp_path / kind, RECIPE, {})
    named = {kind: str(tmp_path / kind) for kind in ("noise", "jpeg")}
    new_objective(replace(RECIPE, objective="router", experts=named), base).save(tmp_path / "model", RECIPE, {})
    model = load_model(str(tmp_path / "model"))
    assert model.experts
    for kind in named:
        trained, found = load_model(named[kind]).refiner, model.experts.refiner(kind, model.refiner)
        for key, tensor in trained.state_dict().items():
            torch.testing.assert_close(found.state_dict()[key], tensor, atol=2e-3, rtol=0)
        assert not torch.equal(found.stem.weight, model.refiner.stem.weight)


def test_a_tone_is_not_trained_where_there_is_none() -> None:
    with pytest.raises(UsageError, match="no tone to train"):
        made("tone", model=replace(RECIPE.model, tone=0))


def test_crops_that_do_not_fit_the_refiner_are_refused() -> None:
    with pytest.raises(UsageError, match=r"crops of 60 px.*multiple of 8"):
        made("refiner", patch=60)


def test_the_ceiling_is_what_the_autoencoder_keeps() -> None:
    objective = made("autoencoder")
    assert isinstance(objective, AutoencoderObjective)
    latent = objective.parts.latent
    assert latent is not None
    with torch.no_grad():
        expected = latent.autoencoder.decode(latent.autoencoder.encode(batch().target_BCHW))
        assert torch.equal(objective.restore(batch()), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_engine_restores_as_training_did(kind: ConditionKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the same noise: pixel for pixel what validation saw."""
    objective: Any = made("end-to-end", latent=replace(RECIPE.latent, condition=kind))
    objective.modules.eval()
    with torch.no_grad():
        for parameter in objective.modules.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        whole = batch()
        one = replace(whole, degraded_BCHW=whole.degraded_BCHW[:1], tone_BK=whole.tone_BK[:1], prompts=["remove noise"])
        generated = generate(objective.parts.latent, one, objective._tokens(one), seed=RECIPE.seed)
        restored = objective.restore(one)
    parts = objective.parts
    shape = (1, parts.latent.autoencoder.latent_channels, 2, 2)
    noise = drawn_noise(RECIPE.seed, one.number, shape)
    monkeypatch.setattr("sanarestore.engine.generation.noise_field", lambda *_: lambda _number: noise)
    model = RestorationModel(
        name="trained", folder=Path(), refiner=parts.refiner, load_latent=lambda: parts.latent, fingerprint="",
        prompts=Prompts({}, lambda: parts.encoder), defaults={"prompt": "remove noise", "steps": 1},
    )  # fmt: skip
    image = images.Image(
        pixels_HWC=one.degraded_BCHW[0].permute(1, 2, 0).contiguous().numpy(), depth="float32", format="tiff"
    )
    for fidelity, expected in ((0.0, generated), (1.0, restored)):
        options = RestoreOptions(fidelity=fidelity)
        result = Restorer(options, device="cpu", model=model)(image).pixels_HWC
        assert torch.allclose(torch.from_numpy(result).permute(2, 0, 1), expected[0], atol=1e-5), fidelity
    assert (generated - restored).abs().max() > 1e-3


def test_other_seeds_are_other_noise() -> None:
    first, again, other, later = (drawn_noise(*named, (1, 8, 2, 2)) for named in ((0, 0), (0, 0), (1, 0), (0, 1)))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, later)


def test_a_base_with_a_latent_path_keeps_it(tmp_path: Path) -> None:
    made("flow").save(tmp_path / "model", RECIPE, {})
    later = replace(RECIPE, objective="end-to-end", latent=LatentShape(layers=3))
    objective: Any = new_objective(later, str(tmp_path / "model"))
    assert objective.parts.latent.transformer.config.num_layers == 1
    refining: Any = new_objective(replace(RECIPE, objective="refiner"), str(tmp_path / "model"))
    assert refining.parts.latent is not None
    assert torch.equal(refining.restore(batch()), batch().degraded_BCHW), "what is off in the model is off in training"
    made("end-to-end").save(tmp_path / "whole", RECIPE, {})
    refining = new_objective(replace(RECIPE, objective="refiner"), str(tmp_path / "whole"))
    torch.nn.init.zeros_(refining.parts.refiner.head.weight)
    before = refining.restore(batch())
    with torch.no_grad():
        tokens = refining._tokens(batch())
        generated = generate(refining.parts.latent, batch(), tokens, seed=RECIPE.seed)
    assert torch.equal(before, generated), "an untrained refiner returns what is generated"


@pytest.fixture
def base(tmp_path: Path, encoder: PromptEncoder, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "cache")
    return str(write_published(tmp_path / "base", encoder))


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize(("name", "kind"), [("flow", "patch-embed"), ("end-to-end", "projection")])
def test_a_published_base_becomes_an_adapter(
    name: str, kind: ConditionKind, rank: int | None, base: str, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, objective=name, latent=replace(RECIPE.latent, condition=kind))
    objective: Any = new_objective(recipe, base, rank=rank)
    objective.to(torch.device("cpu"))
    frozen = {key: tensor.clone() for key, tensor in objective.parts.latent.autoencoder.state_dict().items()}
    objective.loss(batch()).backward()
    objective.modules.eval()
    with torch.no_grad():
        for parameter in objective.modules.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    objective.save(tmp_path / "adapter", recipe, {})
    after = objective.parts.latent.autoencoder.state_dict()
    assert all(torch.equal(after[key], tensor) for key, tensor in frozen.items()), "an adapter has no autoencoder"

    model = load_model(adapter=str(tmp_path / "adapter"))
    assert model.latent is not None
    assert model.latent.transformer.condition.kind == kind
    refiner = objective.parts.refiner.state_dict()
    assert all(torch.equal(tensor, refiner[key].half().float()) for key, tensor in model.refiner.state_dict().items())
    given = batch()
    tokens = Tokens.of([model.prompts.tokens(prompt) for prompt in given.prompts])
    with torch.no_grad():
        expected = generate(objective.parts.latent, given, objective._tokens(given), seed=0)
        assert torch.allclose(generate(model.latent, given, tokens, seed=0), expected, atol=1e-4 if rank else 3e-3)
    index = json.loads((tmp_path / "adapter/adapter.json").read_text())
    assert index["base"] == base
    assert index["change"] == ("lora" if rank else "full")
    assert index["training"]["licence of the base"] == "some-weights-licence"


@pytest.mark.parametrize("name", ["refiner", "autoencoder"])
def test_an_adapter_whose_condition_stays_untrained_is_refused(name: str, base: str) -> None:
    with pytest.raises(UsageError, match="condition untrained"):
        new_objective(replace(RECIPE, objective=name), base)


@pytest.mark.parametrize("name", ["refiner", "flow", "end-to-end"])
def test_a_model_of_its_own_is_adapted_too(name: str, tmp_path: Path) -> None:
    made("end-to-end").save(tmp_path / "base", RECIPE, {})
    before = {path: path.read_bytes() for path in (tmp_path / "base").rglob("*") if path.is_file()}
    # A recipe that would have the refiner grow: an adapter's changes are of what is there.
    grown = replace(RECIPE.model, tone=RECIPE.model.tone + 8, spectrum=RECIPE.model.spectrum + 2)
    objective: Any = new_objective(replace(RECIPE, objective=name, model=grown), str(tmp_path / "base"), rank=2)
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
    assert torch.allclose(whole, expected, atol=2e-2 if name == "end-to-end" else 3e-3), "stored in half"
    assert before == {path: path.read_bytes() for path in before}


def restored_by(model: RestorationModel) -> torch.Tensor:
    """Degraded images through the latent path in one step, and refined."""
    given, path = batch(), model.latent
    tokens = Tokens.of([model.prompts.tokens(prompt) for prompt in given.prompts])
    prompt_BD = torch.stack([model.prompts.pooled(prompt) for prompt in given.prompts])
    assert path is not None
    with torch.no_grad():
        generated = generate(path, given, tokens, seed=0)
        restored: torch.Tensor = model.refiner(given.degraded_BCHW, generated, prompt_BD, given.tone_BK)
    return restored


@pytest.mark.parametrize(
    ("name", "told"),
    [("autoencoder", "'autoencoder' is not learnt by low-rank"), ("flow", "no transformer"), ("tone", "'tone'")],
)
def test_what_has_no_low_rank_changes_is_refused(name: str, told: str, tmp_path: Path) -> None:
    made("refiner").save(tmp_path / "base", RECIPE, {})
    with pytest.raises(UsageError, match=rf"--lora: .*{told}"):
        new_objective(replace(RECIPE, objective=name), str(tmp_path / "base"), rank=4)
    with pytest.raises(UsageError, match="--lora: fresh weights"):
        new_objective(replace(RECIPE, objective=name), rank=4)


def test_the_encoder_of_a_base_is_loaded_once(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[Path] = []
    load = base_module.load_encoder

    def counted(folder: Path) -> PromptEncoder:
        loads.append(folder)
        return load(folder)

    monkeypatch.setattr(base_module, "load_encoder", counted)
    objective: Any = new_objective(replace(RECIPE, objective="flow"), base)
    for prompt in ("remove noise", "remove the noise", "take the noise away", "remove noise"):
        objective.loss(replace(batch(), prompts=[prompt] * 4))
    assert len(loads) == 1
