"""Tests of the seams of every scheme on a random model."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sanarestore import images
from sanarestore.errors import UsageError
from sanarestore.evaluation.columns import Place
from sanarestore.evaluation.seams import Measured, SeamBench
from sanarestore.evaluation.seams_report import CROP, Maps, page_of
from sanarestore.model.loading import save_model
from sanarestore.model.prompts import PromptEncoder
from sanarestore.model.runners.windows import windows_of
from sanarestore.options import BLENDING, LATENT, RestoreOptions
from tests.conftest import photo, random_refiner, worded
from tests.published import latent_path


@pytest.fixture
def model(tmp_path: Path, encoder: PromptEncoder) -> str:
    """A folder with a random latent path and a refiner that refines the generated image."""
    save_model(
        tmp_path / "model", name="tiny", refiner=random_refiner(), **worded(encoder), training={},
        defaults={"prompt": "Restore this image", "latent": True},
        latent=latent_path(prompt_width=8),
    )  # fmt: skip
    return str(tmp_path / "model")


def image_of(height: int, width: int) -> images.Image:
    return images.Image(pixels_HWC=photo(height, width), depth="float32", format="tiff")


def measured(model: str, tilings: list[str], height: int = 192, width: int = 256) -> dict[str, Measured]:
    bench = SeamBench(RestoreOptions(model=model, tile=96), "cpu", tilings, overlap=32)
    image = image_of(height, width)
    return {row.tiling: row for row in bench.measure("photo", image, image_of(height, width))}


def test_the_exact_scheme_has_no_seams_and_the_others_differ(model: str) -> None:
    rows = measured(model, ["exact", *BLENDING])
    assert list(rows) == ["exact", *BLENDING]
    exact = rows["exact"]
    assert (exact.borders, exact.tile) == (1 + 3, 96), "the refiner's columns are cut at 80 and 160, the latents' at 64"
    assert set(exact.stages) == {"condition", "latent", "generated", "result"}
    for stage, (inside, outside) in exact.stages.items():
        assert inside is not None
        assert min(inside, outside) > 100, stage
    assert exact.shift_psnr is not None
    assert exact.shift_psnr > 100
    assert exact.discontinuity == pytest.approx(exact.untiled_discontinuity, rel=1e-3)
    assert exact.flat_step is not None
    assert exact.flat_step < 1 < (rows["independent"].flat_step or 0)
    assert exact.clean_psnr == pytest.approx(exact.untiled_clean_psnr, abs=1e-3)
    for name in BLENDING:
        assert (rows[name].seam_psnr or 0) < 90, name
        assert (rows[name].shift_psnr or 0) < 90, name
        assert rows[name].borders == 3 + 5, "every window counts where it begins and where it ends"
    for name in LATENT:
        assert rows[name].stages["condition"][1] > 100, "the encoder is exact under every scheme"
    assert len({rows[name].stages["latent"] for name in LATENT}) == len(LATENT), "no two schemes have the same latents"
    assert set(rows["independent"].stages) == {"result"}
    record = json.loads(json.dumps(exact.to_json()))
    assert {"image", "tiling", "seam_psnr", "off_seam_psnr", "clean_psnr", "seconds"} <= record.keys()


def test_an_image_within_one_tile_has_no_seams(model: str) -> None:
    rows = measured(model, ["exact", *LATENT], 64, 96)
    for row in rows.values():
        assert (row.borders, row.seam_psnr, row.flat_step, row.shift_psnr) == (0, None, None, None)
        assert row.off_seam_psnr > 100
        assert "seam_psnr" not in row.to_json()


def test_borders_include_those_of_all_stages(model: str) -> None:
    bench = SeamBench(RestoreOptions(model=model, tile=96), "cpu", ["exact", "causal"], overlap=32)
    assert bench.borders("exact", 192, 256, stage="latent") == ((96,), (64, 160))
    assert bench.borders("exact", 192, 256) == ((96,), (64, 80, 160)), "the borders of the refiner are included"
    assert bench.shift("exact", 192, 256) == (64, 32), "the shift is half of 96 and of 80, rounded to strides of 32"
    assert bench.shift("causal", 192, 96) == (32, 0), "one tile spans the columns"


def test_borders_of_unaligned_windows_equal_those_of_the_runners(model: str) -> None:
    bench = SeamBench(RestoreOptions(model=model, tile=100), "cpu", ["causal", "independent"], overlap=40)
    restorer = bench._restorers["causal"]
    assert restorer.generation is not None
    blended = restorer.generation._blended
    assert (blended["tile"], blended["overlap"]) == (3, 2), "tile and overlap are 96 and 64 px"
    windows = windows_of(restorer.generation.latent.transformer, 6, 8, tile=3, overlap=2)
    assert set(bench.borders("causal", 192, 256)[0]) == {
        edge * 32 for window in windows for edge in window.box[:2] if 0 < edge < 6
    }


def test_all_schemes_that_change_the_result_are_compared_by_default(model: str, tiny_folder: Path) -> None:
    assert SeamBench(RestoreOptions(model=model), "cpu").compared == ("exact", *BLENDING)
    assert SeamBench(RestoreOptions(model=str(tiny_folder)), "cpu").compared == ("exact", "independent")
    assert SeamBench(RestoreOptions(), "cpu").compared == ("exact", "independent"), (
        "the embedded model uses only its refiner"
    )
    assert SeamBench(RestoreOptions(fidelity=0.5), "cpu").compared == ("exact", *BLENDING)


def test_schemes_that_cannot_be_compared_are_refused(model: str, tiny_folder: Path) -> None:
    with pytest.raises(UsageError, match="--tilings: off is what the others are compared with"):
        SeamBench(RestoreOptions(model=model), "cpu", ["exact", "off"])
    with pytest.raises(UsageError, match="'mosaic' is not exact"):
        SeamBench(RestoreOptions(model=model), "cpu", ["mosaic"])
    with pytest.raises(UsageError, match="no latent path"):
        SeamBench(RestoreOptions(model=str(tiny_folder)), "cpu", ["causal"])


def test_the_page_shows_where_schemes_differ(model: str, tmp_path: Path) -> None:
    bench = SeamBench(RestoreOptions(model=model, tile=96), "cpu", ["exact", "independent"], overlap=32)
    maps = Maps()
    rows = list(bench.measure("a <b>.png", image_of(192, 256), watch=maps.add))
    shown = {each.title: each.pictures for each in maps.of("a <b>.png")}
    assert list(shown) == ["exact", "independent"]
    assert shown["independent"]["at its worst seam"].shape == (CROP, CROP, 3)
    exact, independent = (each["difference from untiled"] for each in shown.values())
    assert exact.mean() < independent.mean()
    page_of(rows, maps).write(tmp_path / "page/index.html", "sanarestore seams a.png")
    page = (tmp_path / "page/index.html").read_text(encoding="utf-8")
    assert "a &lt;b&gt;.png" in page
    assert page.count("<img") == 6
    assert all(f'<td class="words">{stage}</td>' in page for stage in ("condition", "latent", "generated", "result"))


def test_steps_are_shown_relative_to_the_untiled_result(model: str) -> None:
    bench = SeamBench(RestoreOptions(model=model, tile=96), "cpu", ["independent"], overlap=32)
    (row,) = bench.measure("a.png", image_of(192, 256))
    assert row.discontinuity is not None
    assert row.untiled_discontinuity
    assert row.cells(Place.TERMINAL)["steps"] == f"{row.discontinuity / row.untiled_discontinuity:.3f}"
    assert "steps" not in replace(row, untiled_discontinuity=None).cells(Place.TERMINAL)
