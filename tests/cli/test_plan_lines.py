"""The plan of a training as it is shown: aligned, within 80 columns, in words."""

from dataclasses import replace

from sanarestore.cli.plan_lines import lines, warning
from sanarestore.training.depth_record import DepthRecord
from sanarestore.training.plan import TrainingPlan
from sanarestore.training.scores import LabelScore, Validation

PLAN = TrainingPlan(
    stage="", base="owner/sana-checkpoint-with-a-long-name", rank=32, objective="end-to-end", optimizer="muon",
    device="cuda:0", dtype="bfloat16", processes=1, kind="pairs", samples=240, held_back=4, megapixels=175.25,
    trained_parameters=42_421_572, parameters=1_958_000_000, step=0, steps=4000, batch=4, accumulate=1, patch=256,
    passes=5.98,
    memory={
        "frozen": 3_860_000_000, "trained": 170_000_000, "gradients": 170_000_000, "optimizer": 340_000_000,
        "ema": 170_000_000, "activations": 1_270_000_000, "workers": 0, "total": 5_980_000_000,
    },
    memory_free=24_100_000_000, seconds_per_step=0.84, max_minutes=None, minutes=0.0, checkpoint_bytes=680_000_000,
    result_bytes=146_000_000, disk_free=71_000_000_000,
)  # fmt: skip


def test_the_plan_is_aligned_and_within_80_columns() -> None:
    assert lines(PLAN) == [
        "  data     240 pairs, 175.2 MP in all, 4 more for validation",
        "  base     owner/sana-checkpoint-with-a-long-name, LoRA of rank 32; end-to-end",
        "           trains 42.4 M of 2.0 G weights by muon",
        "  steps    4,000 steps of 4 crops of 256 px: 6.0 passes over 240 pairs",
        "  memory   about 6.0 GB of 24.1 GB free on cuda:0: frozen weights 3.9 GB,",
        "           trained weights 170 MB, gradients 170 MB, optimizer 340 MB,",
        "           EMA 170 MB, activations 1.3 GB",
        "  time     about 56 min: 840 ms a step on cuda:0 in bfloat16, by a trial step",
        "  disk     a checkpoint takes 680 MB, the adapter 146 MB; 71.0 GB are free",
    ]
    assert all(len(line) <= 80 for line in lines(replace(PLAN, base="x" * 60, processes=8, accumulate=2)))


def test_a_resumed_run_several_processes_and_stages_are_named() -> None:
    found = lines(replace(PLAN, stage="stage 1 of 2: flow", step=100, processes=2, accumulate=2))
    assert found[0] == "plan of stage 1 of 2: flow"
    shown = " ".join(" ".join(found).split())
    assert "4 crops of 256 px in 2 processes, each in 2 parts, 100 of them done" in shown
    assert "each process takes about" in shown


def test_low_rank_weights_alone_are_trained_by_adamw() -> None:
    """Muon trains kernels of convolutions, of which there are none."""
    assert "weights by adamw" in " ".join(" ".join(lines(replace(PLAN, objective="flow"))).split())


def test_a_run_on_words_shows_no_pixels() -> None:
    shown = "\n".join(lines(replace(PLAN, kind="wordings", megapixels=0.0, passes=0.0, memory_free=None)))
    assert "words alone" in shown
    assert "4,000 steps of 4 prompts" in shown
    assert "MP" not in shown


def test_a_time_limit_is_named_with_the_steps_that_it_leaves_room_for() -> None:
    shown = " ".join(" ".join(lines(replace(PLAN, max_minutes=14.0))).split())
    assert "14 min, the limit, for about 1,000 steps: 840 ms a step" in shown
    assert "not estimated" in "\n".join(lines(replace(PLAN, seconds_per_step=None)))


def test_a_long_training_on_a_cpu_is_warned_of() -> None:
    long = replace(PLAN, device="cpu", seconds_per_step=67.5)
    assert warning(long) == (
        "this takes 75 h 00 min on this CPU. It ends within 12 hours with --steps 640 or --max-minutes 720; "
        "a GPU (--device cuda) is many times faster."
    )
    assert warning(replace(long, device="cuda:0")) == ""
    assert warning(replace(long, max_minutes=60.0)) == ""
    assert warning(replace(long, seconds_per_step=None)) == ""


def test_another_depth_is_named_with_its_cost() -> None:
    depth = DepthRecord(before=20, removed=(5, 7, 8), importances=(0.1,) * 20)
    found = lines(replace(PLAN, depth=depth))
    assert "  blocks   20 in the base, 17 now: blocks 5, 7 and 8 removed" in found
    before, after = (
        Validation({"noise": LabelScore(images=1, psnr_before=20, psnr_after=psnr)}) for psnr in (24, 21.5)
    )
    grown = DepthRecord(
        before=20, removed=(18, 19), appended=40, validation_before=before, validation_after=after
    )  # fmt: skip
    shown = " ".join(" ".join(lines(replace(PLAN, depth=grown))).split())
    assert "blocks 20 in the base, 58 now: blocks 18 and 19 removed, 40 appended; validation +4.00 dB" in shown
    assert "+4.00 dB before, +1.50 dB with these blocks steps" in shown
