"""Results of a run: comparisons, files and warnings."""

from pathlib import Path

import pytest

from sanarestore.evaluation.columns import Place, table
from sanarestore.training.results import FILE, Results
from sanarestore.training.scores import LabelScore, Validation


def validation(**after: float) -> Validation:
    """A validation that restores degradations of 20 dB to some others."""
    return Validation(
        {label: LabelScore(images=2, psnr_before=20, psnr_after=psnr, ssim_after=0.5) for label, psnr in after.items()}
    )


FOUND = Results(
    before=validation(noise=25, jpeg=22), base=validation(noise=27, jpeg=23), after=validation(noise=26.8, jpeg=22.95),
    step=40, settings_before={"1 step, fidelity 0": validation(noise=12)},
    settings_after={"1 step, fidelity 0": validation(noise=14)},
)  # fmt: skip


def test_degradations_that_the_base_restores_better_are_named_with_the_loss() -> None:
    assert FOUND.worse == {"noise": pytest.approx(0.2)}
    assert FOUND.warning.endswith("dropped: noise by 0.20 dB")
    assert Results(before=FOUND.before, after=FOUND.after).warning == ""
    assert Results(base=FOUND.base, after=validation(noise=28, jpeg=22.91)).warning == ""


def test_a_training_that_harms_is_warned_of() -> None:
    harmed = Results(before=FOUND.before, base=FOUND.base, after=validation(noise=15, jpeg=22))
    assert harmed.warning.startswith("training has made the result worse by 5.00 dB")


def test_results_are_kept_in_the_folder(tmp_path: Path) -> None:
    FOUND.save(tmp_path)
    assert Results.load(tmp_path) == FOUND
    assert Results.load(tmp_path / "older") == Results()
    (tmp_path / FILE).write_text('{"before": 3}')
    assert Results.load(tmp_path) == Results()


def test_the_table_has_a_row_for_each_degradation_and_one_of_means() -> None:
    shown = table(FOUND.rows, Place.TERMINAL)
    assert [column.title for column in shown.columns] == [
        "degradation", "images", "degraded", "step 0", "base", "trained", "gain",
    ]  # fmt: skip
    assert shown.rows[0] == ["noise", "2", "20.00", "25.00", "27.00", "26.80", "+6.80"]
    assert shown.rows[-1] == ["mean", "4", "20.00", "23.50", "25.00", "24.88", "+4.88"]
    assert table(FOUND.setting_rows, Place.TERMINAL).rows == [
        ["1 step, fidelity 0", "noise", "12.00", "14.00"],
        ["", "mean", "12.00", "14.00"],
    ]


def test_an_interrupted_run_shows_what_was_measured_before() -> None:
    (row,) = table(Results(before=validation(noise=25)).rows, Place.TERMINAL).rows
    assert row == ["noise", "2", "20.00", "25.00"]
    assert Results().rows == []
