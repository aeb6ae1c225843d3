"""The model card: its front matter as hubs read it, its content, and private facts that it omits."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from sanarestore import weights
from sanarestore.model.adapter import read_adapter
from sanarestore.model.prompts import PromptEncoder
from sanarestore.training.card import CURVES, Trained, card, write_card
from sanarestore.training.card_check import check_card
from sanarestore.training.licences import IDENTIFIERS, PERMISSIVE, Licence
from sanarestore.training.record import RunRecord
from tests.published import write_adapted
from tests.training.test_report import write_run

HUB = Trained(
    folder=Path("model"), name="dusty", kind="adapter", base="owner/sana@0123abc", prompt="remove dust",
    prompts=("no `more` dust", "remove dust"),
)  # fmt: skip


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    return RunRecord.read(write_run(tmp_path / "run"))


def fields(text: str) -> dict[str, object]:
    data: dict[str, object] = ModelCard(text).data.to_dict()
    return data


def test_the_front_matter_of_an_adapter_names_base_and_licence(record: RunRecord) -> None:
    text = card(HUB, record, Licence(stated="NSCL v2-custom", files=(Path("LICENSE.txt"),)))
    found = fields(text)
    assert found == {
        "license": "other", "license_name": "nscl-v2-custom", "license_link": "LICENSE.txt",
        "library_name": "sanarestore", "pipeline_tag": "image-to-image", "base_model": "owner/sana",
        "base_model_relation": "adapter", "tags": ["image-restoration", "photography", "sanarestore"],
        "metrics": ["psnr", "ssim"],
    }  # fmt: skip
    assert check_card(text) == []


def test_a_base_that_is_on_no_hub_is_named_in_the_text_without_its_path(record: RunRecord) -> None:
    text = card(replace(HUB, base="/home/someone/private/base"), record, Licence(stated="mit"))
    assert "base_model" not in fields(text)
    assert "An adapter of base that" in text
    assert "/home" not in text
    embedded = card(replace(HUB, base=weights.EMBEDDED), record, Licence(stated="apache-2.0"))
    assert fields(embedded)["license"] == "apache-2.0"
    assert "sanarestore-mini" in embedded


def test_the_text_tells_use_data_recipe_figures_and_limits(record: RunRecord) -> None:
    text = card(HUB, record, Licence(stated="mit"), has_curves=True)
    for shown in (
        "$ sanarestore restore ./photos -o ./restored --adapter ./model --prompt 'remove dust'",
        "`remove <b>dust</b>`, no prompt, and 2 more", "with all others, the base restores photographs",
        "| trained on | 3 pairs, 5.0 MB |", "| steps | 100 of 16 crops of 96 px |", '"noise:5-40" = 0.5',
        "| noise | 2 | 20.00 | 25.00 | 27.00 | 26.80 | +6.80 |", "noise by 0.20 dB", f"]({CURVES})",
        "4 images", "It works only with the weights", "check that you may publish them",
    ):  # fmt: skip
        assert shown in text, shown
    assert "remove &lt;b>dust" in text, "tables hold no HTML"


def test_recipes_on_cards_name_no_files(record: RunRecord) -> None:
    recipe = {**record.recipe, "held_back": ["summer_at_home"], "experts": {"noise": "/home/someone/noise"}}
    text = card(HUB, replace(record, recipe=recipe), Licence(stated="mit"))
    assert "summer" not in text
    assert "/home" not in text


def test_a_quote_in_a_prompt_does_not_end_the_command(record: RunRecord) -> None:
    text = card(replace(HUB, prompt="don't; rm -rf `x`"), record, Licence(stated="mit"))
    assert "--prompt 'don'\\''t; rm -rf '\\''x'\\'''" in text


def test_new_weights_leave_the_choice_of_a_licence(record: RunRecord) -> None:
    text = card(replace(HUB, base=None, kind="model"), record, Licence(stated=weights.NOT_STATED))
    assert fields(text)["license"] == "unknown"
    assert "Choose a licence" in text
    assert check_card(text) == []


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("apache-2.0", {"license": "apache-2.0"}),
        ("MIT", {"license": "mit"}),
        (weights.NOT_STATED, {"license": "unknown"}),
        ("NVIDIA Open Model License", {"license": "other", "license_name": "nvidia-open-model-license"}),
        ("other", {"license": "other", "license_name": "other"}),
        ("…", {"license": "other", "license_name": "not-named"}),
    ],
)
def test_a_licence_becomes_fields_of_the_card(said: str, expected: dict[str, str]) -> None:
    assert Licence(stated=said).fields == expected


def test_publishing_asks_what_the_licence_of_the_base_asks() -> None:
    strict = " ".join(Licence(stated="nscl-v2-custom").conditions("owner/sana"))
    assert "non-commercial" in strict
    assert "Gemma" in strict
    assert "Add the text" in strict
    kept = " ".join(Licence(stated="mit", files=(Path("x/LICENSE"),)).conditions("owner/sana"))
    assert "Keep `LICENSE`" in kept
    assert "commercial" not in kept
    assert "may set conditions" in " ".join(Licence(stated="cc-by-nc-4.0").conditions("x"))
    assert "Ask its authors" in " ".join(Licence(stated=weights.NOT_STATED).conditions("x"))
    assert PERMISSIVE < IDENTIFIERS


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("---\n", ""), "no front matter"),
        (("library_name: sanarestore\n", ""), "library_name is missing"),
        (("license: other", "license: nscl"), "'nscl' is not an identifier"),
        (("license_name: nscl-v2-custom", "license_name: NSCL v2"), "license_name must be"),
        (("base_model: owner/sana", "base_model: /home/x/y"), "is not a hub id"),
        (("base_model_relation: adapter", "base_model_relation: child"), "'child' is none of"),
        (("metrics: [psnr, ssim]", "metrics: psnr"), "metrics must be a list"),
        (("tags: [", "tags: ["), ""),
        (("pipeline_tag: image", "pipeline_tag: [image"), "not YAML"),
    ],
)
def test_faults_of_front_matter_are_found_offline(change: tuple[str, str], fault: str, record: RunRecord) -> None:
    text = card(HUB, record, Licence(stated="NSCL v2-custom")).replace(*change, 1)
    found = check_card(text)
    assert (found == []) if not fault else any(fault in each for each in found), found


def test_a_card_beside_an_adapter_leaves_its_hashes_alone(
    record: RunRecord, tmp_path: Path, encoder: PromptEncoder
) -> None:
    write_adapted(tmp_path, encoder)
    (tmp_path / "base/LICENSE.txt").write_text("the text")
    folder = tmp_path / "adapter"
    path = write_card(Trained.of(folder, "dusty", None), record)
    assert weights.licence(folder) == "some-weights-licence"
    assert (folder / "LICENSE.txt").read_text() == "the text"
    assert (folder / CURVES).read_text().startswith("<svg")
    path.write_text("edited")
    found = read_adapter(str(folder))
    assert (found.licence, found.revision) == ("some-weights-licence", None)
    assert str(tmp_path) not in (folder / CURVES).read_text()


def test_an_adapter_of_an_older_version_still_names_its_licence(tmp_path: Path, encoder: PromptEncoder) -> None:
    write_adapted(tmp_path, encoder)
    path = tmp_path / "adapter/adapter.json"
    index = json.loads(path.read_text())
    del index["licence"], index["revision"]
    index["training"]["licence of the base"] = "strict"
    path.write_text(json.dumps(index))
    assert read_adapter(str(tmp_path / "adapter")).licence == "strict"
    del index["training"]
    path.write_text(json.dumps(index))
    assert read_adapter(str(tmp_path / "adapter")).licence == weights.NOT_STATED
