"""Runs that remove blocks of a decoder and train the rest: importances, results of every kind of base, and refusals."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from sanarestore import catalogue, images, weights
from sanarestore.engine.restorer import Restorer
from sanarestore.errors import UsageError, WeightsError
from sanarestore.files import hash_file
from sanarestore.model.adapter import read_adapter
from sanarestore.model.base import load_autoencoder
from sanarestore.model.decoder_depth import decoder_blocks
from sanarestore.model.loading import load_model, save_model
from sanarestore.model.prompts import PromptEncoder
from sanarestore.options import RestoreOptions
from sanarestore.training import run as run_module
from sanarestore.training.batching import Batch, collate
from sanarestore.training.data import PhotoSamples
from sanarestore.training.decoder_objective import DecoderObjective, decoder_objective
from sanarestore.training.decoder_pruning import decoder_importances, prune_decoder
from sanarestore.training.depth_record import DepthRecord
from sanarestore.training.memory import estimate_memory
from sanarestore.training.order import SCRATCH, Order, choose_recipe
from sanarestore.training.plan import plan_of
from sanarestore.training.progress import Schedule
from sanarestore.training.ranks import Ranks
from sanarestore.training.recipe import TrainingRecipe
from sanarestore.training.run import Run
from sanarestore.training.starting import Start
from tests.conftest import random_refiner
from tests.model.test_decoder_depth import silenced
from tests.published import TINY_RECIPE, latent_path, tiny_autoencoder, write_adapted
from tests.training.conftest import finished

CPU = torch.device("cpu")

RECIPE = replace(
    TINY_RECIPE, objective="decoder", steps=2, batch=2, patch=32, warmup=1, workers=0, validation_photos=1,
    validate_every=0, checkpoint_every=0, optimizer="adamw", muon_rate=0.0, learning_rate=1e-3, coarse_weight=0.0,
    degradations={"clean": 1.0}, prune_decoder=2, ema=0.0,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, unestimated_memory: None) -> None:
    """Measure on few samples and for a short time, and skip the estimate of memory, which has its own test."""
    monkeypatch.setattr("sanarestore.training.decoder_pruning.SAMPLES", 2)
    monkeypatch.setattr("sanarestore.training.decoder_pruning.SECONDS", 0.0)
    monkeypatch.setattr("sanarestore.training.decoder_pruning.ROUNDS", (1, 1))


@pytest.fixture
def alone(tmp_path: Path) -> str:
    """An autoencoder alone, of a decoder of 12 blocks, two of them without effect: 4 and 7."""
    dc = tiny_autoencoder(decoder_layers_per_block=[3, 3, 3, 1, 1, 1])
    with torch.no_grad():
        for number, parameter in enumerate(dc.decoder.parameters()):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
        for number in (4, 7):
            silenced(decoder_blocks(dc.decoder)[number].module)
    dc.save_pretrained(tmp_path / "alone")
    (tmp_path / "alone/README.md").write_text("---\nlicense: other\nlicense_name: some-weights-licence\n---\n# tiny\n")
    return str(tmp_path / "alone")


@pytest.fixture
def model(tmp_path: Path, encoder: PromptEncoder) -> str:
    """A restoration model with a latent path of random weights."""
    save_model(
        tmp_path / "whole", name="whole", refiner=random_refiner(), encoder=encoder,
        prompts=encoder.table(["", "remove noise"]), defaults={"prompt": "remove noise", "latent": True, "steps": 1},
        training={}, latent=latent_path(prompt_width=encoder.width),
    )  # fmt: skip
    return str(tmp_path / "whole")


def a_run(data: Path, base: str, folder: str = "run", *, resume: bool = False, **changes: Any) -> Run:
    order = Order(data=data, folder=data.parent / folder, base=base, resume=resume)
    return Run(order, replace(RECIPE, **changes))


def a_batch(photos: list[Path]) -> Batch:
    samples = PhotoSamples(photos, RECIPE)
    return collate([samples[0], samples[1]])


def test_importance_is_one_minus_the_mean_cosine_over_channels(photos: list[Path], alone: str) -> None:
    objective = decoder_objective(RECIPE, Start(base=alone))
    passed: list[tuple[torch.Tensor, torch.Tensor]] = []
    third = decoder_blocks(objective.whole.decoder)[2].module
    with third.register_forward_hook(lambda _, given, result: passed.append((given[0], result))):
        found = decoder_importances(objective, [a_batch(photos), a_batch(photos)], CPU)
    assert len(passed) == 2
    cosines = [float(F.cosine_similarity(one, other, dim=1).mean()) for one, other in passed]
    assert found[2] == pytest.approx(1 - sum(cosines) / 2, abs=1e-6)
    assert [number for number, each in enumerate(found) if abs(each) < 1e-12] == [4, 7]
    assert not any(block.module._forward_hooks for block in decoder_blocks(objective.whole.decoder))


def test_removing_only_blocks_without_effect_equals_the_whole_decoder_at_step_0(photos: list[Path], alone: str) -> None:
    objective = decoder_objective(RECIPE, Start(base=alone))
    batch = objective.referred(a_batch(photos))
    pruned, record = prune_decoder(objective, PhotoSamples(photos, RECIPE), [batch], CPU, Ranks())
    assert record.removed == (4, 7)
    assert torch.equal(pruned.restore(batch), objective.restore(batch))
    assert record.validation_before == record.validation_after
    follower = DecoderObjective(objective.whole, replace(RECIPE, teacher=True), alone, record.removed)
    assert follower.loss(batch).item() == pytest.approx(-40, abs=1e-3), "no error above the floor"
    assert pruned.loss(batch).item() > -30, "without a teacher, photographs are to be reconstructed"


def test_the_loss_of_one_repeated_batch_falls(photos: list[Path], alone: str) -> None:
    for teacher, rate in ((False, 1e-3), (True, 1e-4)):
        objective = decoder_objective(replace(RECIPE, teacher=teacher), Start(base=alone)).without((3, 5, 7))
        encoder = {name: each.clone() for name, each in objective.whole.state_dict().items()}
        optimizer = torch.optim.AdamW(objective.modules.parameters(), rate)
        losses = []
        for _ in range(12):
            loss = objective.loss(a_batch(photos))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0] - 0.1, losses
        assert all(torch.equal(encoder[name], each) for name, each in objective.whole.state_dict().items())


def test_an_autoencoder_alone_becomes_a_smaller_one(data: Path, alone: str) -> None:
    run = a_run(data, alone, prune_decoder=3)
    record = run.depth
    assert record is not None
    assert record.decoder is not None
    assert (record.before, record.after, len(record.importances)) == (12, 9, 12)
    assert set(record.removed) > {4, 7}
    for pair in (record.decoder.parameters, record.decoder.macs_per_pixel):
        assert pair[1] < pair[0]
    assert plan_of(run, tries=False).result_bytes > 0
    result = finished(run)
    assert DepthRecord.load(run.folder) == record
    assert len(decoder_blocks(load_autoencoder(result).decoder)) == 9
    found = catalogue.describe(str(result))
    assert (found.kind, found.base, found.licence) == ("autoencoder", alone, "some-weights-licence")
    (stage,) = found.stages
    assert stage["decoder_blocks"] == {"before": 12, "after": 9, "removed": [*record.removed]}
    assert catalogue.verified(str(result)).wrong == ()
    assert catalogue.verified(str(result)).unknown == 0
    page, card = ((run.folder / "report.html").read_text(), (result / "README.md").read_text())
    for text in (page, card):
        assert record.words in text
        assert "dB after training" in text
    assert "up_blocks.2.1 ResBlock" in page
    assert "Importance of the blocks" in (result / "curves.svg").read_text()
    assert "--autoencoder" in card
    (result / "config.json").write_text((result / "config.json").read_text() + "\n")
    assert len(catalogue.verified(str(result)).wrong) == 1


def test_a_model_changes_in_its_decoder_alone(data: Path, model: str) -> None:
    result = finished(a_run(data, model))
    assert weights.is_model(result)
    assert catalogue.verified(str(result)).wrong == ()
    before, after = (weights.read_manifest(Path(each))["sha256"] for each in (model, result))
    assert {name for name in before if before[name] != after[name]} == {
        "vae/config.json", "vae/diffusion_pytorch_model.safetensors"
    }  # fmt: skip
    one, other = (load_autoencoder(Path(each) / "vae") for each in (model, result))
    state = other.encoder.state_dict()
    assert all(torch.equal(state[name], each) for name, each in one.encoder.state_dict().items())
    assert len(decoder_blocks(other.decoder)) == len(decoder_blocks(one.decoder)) - 2
    image = images.read(next(data.glob("*.png")))
    restored = Restorer(RestoreOptions(fidelity=0.0), device="cpu", model=load_model(str(result)))(image)
    assert restored.pixels_HWC.shape == image.pixels_HWC.shape


def test_an_adapter_gets_a_smaller_decoder_of_its_own(data: Path, tmp_path: Path, encoder: PromptEncoder) -> None:
    write_adapted(tmp_path, encoder)
    base = str(tmp_path / "base")
    result = finished(a_run(data, str(tmp_path / "adapter")))
    assert read_adapter(str(result)).autoencoder == str(result / "vae")
    loaded = load_model(None, str(result))
    assert loaded.note is None
    assert loaded.latent is not None
    assert len(decoder_blocks(loaded.latent.autoencoder.decoder)) == 10
    assert loaded.fingerprint != load_model(None, str(tmp_path / "adapter")).fingerprint
    assert load_model(base, str(result)).latent is not None
    # Only the record of the autoencoder is new beside it.
    for name in ("condition.safetensors", "refiner.safetensors", "prompts.safetensors"):
        assert hash_file(result / name) == hash_file(tmp_path / "adapter" / name)
    moved = result.rename(tmp_path / "moved")
    assert read_adapter(str(moved)).autoencoder == str(moved / "vae"), "it lies in the adapter's folder"
    again = a_run(data, str(moved), folder="again", prune_decoder=1)
    assert again.depth is not None
    assert again.depth.before == 10, "an adapter's own autoencoder is pruned further"
    path = moved / "vae/diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match="diffusion_pytorch_model"):
        read_adapter(str(moved))


def test_a_published_base_gives_an_autoencoder_that_its_adapters_use(
    data: Path, tmp_path: Path, encoder: PromptEncoder
) -> None:
    write_adapted(tmp_path, encoder)
    result = finished(a_run(data, str(tmp_path / "base")))
    assert weights.is_autoencoder(result)
    found = load_model(None, str(tmp_path / "adapter"), autoencoder=str(result))
    assert found.latent is not None
    assert len(decoder_blocks(found.latent.autoencoder.decoder)) == 10


def test_a_resumed_run_has_the_same_blocks_and_weights_as_an_uninterrupted_one(
    data: Path, alone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = finished(a_run(data, alone, folder="whole", prune_decoder=3))
    finished(a_run(data, alone, prune_decoder=3), stop_at=1)
    monkeypatch.setattr(run_module, "prune_decoder", None)  # nothing is measured again
    again = finished(a_run(data, alone, resume=True, prune_decoder=3))
    file = "diffusion_pytorch_model.safetensors"
    assert (again / file).read_bytes() == (whole / file).read_bytes()
    (data.parent / "run/depth.json").unlink()
    with pytest.raises(UsageError, match=r"depth\.json: is missing"):
        a_run(data, alone, resume=True, prune_decoder=3)


@pytest.mark.parametrize("kind", ["alone", "model"])
def test_memory_is_estimated_at_the_new_depth_from_configurations(
    kind: str, alone: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Start(base=alone if kind == "alone" else model)
    objective = decoder_objective(RECIPE, start).without((3, 6))
    trained = sum(each.numel() for each in objective.modules.parameters())
    monkeypatch.setattr("sanarestore.training.decoder_objective.load_autoencoder", None)
    # Blocks 10 and 11 are removed for the estimate; all residual blocks of this decoder are of one size.
    found = estimate_memory(replace(RECIPE, prune_decoder=2), start)
    sizes = [sum(one.numel() for one in each.module.parameters()) for each in decoder_blocks(objective.whole.decoder)]
    assert found.trained == 4 * (trained + sizes[3] + sizes[6] - sizes[10] - sizes[11])
    assert found.frozen > 0
    assert found.activations > 0


def test_the_recipe_follows_the_base_where_none_is_named(data: Path, alone: str) -> None:
    order = Order(data=data, folder=data.parent / "mine", base=alone, prune_decoder=4)
    found = choose_recipe(order)
    assert (found.name, found.objective, found.steps, found.patch) == ("mine", "decoder", 100, 256)
    assert (found.prune_decoder, found.teacher) == (4, True)
    found = choose_recipe(replace(order, base=weights.EMBEDDED, steps=7))
    assert (found.patch, found.prune_decoder, found.steps, found.teacher) == (128, 4, 7, False)


def test_what_makes_no_sense_is_refused(data: Path, alone: str, tmp_path: Path, encoder: PromptEncoder) -> None:
    for changes, message in (
        ({"objective": "refiner"}, "prune_decoder and the objective decoder need each other"),
        ({"prune_decoder": 0}, "prune_decoder and the objective decoder need each other"),
        ({"prune_decoder": -1}, "must not be negative"),
        ({"prune": 1}, "grow and prune apply only to the objectives flow and end-to-end"),
        ({"patch": 48}, "patch must be a multiple of 32"),
    ):
        with pytest.raises(UsageError, match=message):
            replace(RECIPE, **changes).check()  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"the decoder has 12 blocks.*Remove 7 at most"):
        a_run(data, alone, prune_decoder=8)
    with pytest.raises(UsageError, match="new weights have no decoder to prune"):
        a_run(data, SCRATCH)
    save_model(
        tmp_path / "bare", name="bare", refiner=random_refiner(), encoder=encoder, prompts=encoder.table([""]),
        defaults={"prompt": ""}, training={},
    )  # fmt: skip
    with pytest.raises(UsageError, match="this base has no AutoencoderDC"):
        a_run(data, str(tmp_path / "bare"))
    with pytest.raises(UsageError, match="the decoder that is pruned is the base's"):
        decoder_objective(RECIPE, Start(base=alone, autoencoder=alone))
    pairs = data.parent / "pairs.csv"
    pairs.write_text("image_path,condition_image_path,caption\n0.png,0.png,restore\n")
    with pytest.raises(UsageError, match="the objective 'decoder' needs clean photos"):
        a_run(pairs, alone)
    order = Order(data=data, folder=data.parent / "run", base=alone, prune_decoder=1)
    for changed in (replace(order, rank=4), replace(order, schedule=Schedule(sharded=True))):
        with pytest.raises(UsageError, match="a decoder that loses blocks is trained whole"):
            choose_recipe(changed)
    own = tmp_path / "flow.toml"
    own.write_text('objective = "flow"\n')
    with pytest.raises(UsageError, match="prune_decoder and the objective decoder need each other"):
        choose_recipe(replace(order, recipe=own))


def test_the_record_of_a_decoder_survives_json(tmp_path: Path, photos: list[Path], alone: str) -> None:
    objective = decoder_objective(RECIPE, Start(base=alone))
    batch = objective.referred(a_batch(photos))
    _, record = prune_decoder(objective, PhotoSamples(photos, RECIPE), [batch], CPU, Ranks())
    record.save(tmp_path)
    assert DepthRecord.load(tmp_path) == record
    content = json.loads((tmp_path / "depth.json").read_text())
    assert content["decoder"]["names"][0] == "up_blocks.5.0 EfficientViTBlock"
    assert TrainingRecipe.from_dict(json.loads(json.dumps(RECIPE.to_dict()))) == RECIPE
