"""Clips: folders of frames and video files are restored, resumed after an interruption, or refused with a reason."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sanarestore import images
from sanarestore.engine import clips
from sanarestore.engine.clip_jobs import ClipJob, ClipOutcome, frames_job, natural, video_jobs
from sanarestore.engine.clips import ClipRestorer
from sanarestore.engine.restorer import Restorer
from sanarestore.errors import NoImagesError, UsageError
from sanarestore.model.loading import RestorationModel
from sanarestore.options import BatchOptions, ClipOptions, RestoreOptions, WriteOptions
from tests.conftest import save_photo
from tests.video.clip_files import read_clip, save_clip

FRAMES = 7


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a few frames, so that a short clip has several."""
    monkeypatch.setattr(clips, "PART", 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Frames whose natural order is not their alphabetical order."""
    for number in range(FRAMES):
        save_photo(tmp_path / "clip" / f"f{number + 7}.png", 24, 40, seed=number // 4)
    return tmp_path / "clip"


def restorer(
    model: RestorationModel, clip: ClipOptions | None = None, *, overwrite: bool = False, **options: Any
) -> ClipRestorer:
    one = Restorer(RestoreOptions(**options), device="cpu", model=model)
    return ClipRestorer(one, clip or ClipOptions(), BatchOptions(overwrite=overwrite))


def outcome_of(job: ClipJob, restores: ClipRestorer) -> ClipOutcome:
    last = list(restores.restore(job))[-1]
    assert isinstance(last, ClipOutcome)
    return last


def interrupt(job: ClipJob, restores: ClipRestorer, after: int) -> None:
    """Start a clip, and stop the run after some frames."""
    events = restores.restore(job)
    for _ in range(after):
        next(events)
    events.close()


def contents(paths: Sequence[Path]) -> list[bytes]:
    return [path.read_bytes() for path in paths]


def test_frames_are_ordered_as_people_count() -> None:
    assert sorted(["f10.png", "f9.png", "f009.png", "a.png"], key=natural) == ["a.png", "f9.png", "f009.png", "f10.png"]


def test_a_folder_of_frames_is_restored_in_order(folder: Path, tmp_path: Path, tiny_model: RestorationModel) -> None:
    before = contents(sorted(folder.iterdir()))
    job = frames_job([str(folder)], str(tmp_path / "out"), WriteOptions())
    assert [each.source.name for each in job.frames] == [f"f{number}.png" for number in range(7, 14)]
    outcome = outcome_of(job, restorer(tiny_model))
    assert (outcome.status, outcome.frames, outcome.resumed, outcome.error) == ("done", FRAMES, 0, None)
    assert all(images.read(each.target).pixels_HWC.shape == (24, 40, 3) for each in job.frames)
    assert contents(sorted(folder.iterdir())) == before
    assert outcome_of(job, restorer(tiny_model)).status == "skipped"


def test_without_the_filter_frames_equal_photographs(
    folder: Path, tmp_path: Path, tiny_model: RestorationModel
) -> None:
    job = frames_job([str(folder)], str(tmp_path / "out"), WriteOptions())
    outcome_of(job, restorer(tiny_model, ClipOptions(temporal=0)))
    alone = Restorer(RestoreOptions(), device="cpu", model=tiny_model)
    for each in job.frames:
        wanted = images.from_float(alone(images.read(each.source)).pixels_HWC, "uint8")
        assert np.array_equal(images.from_float(images.read(each.target).pixels_HWC, "uint8"), wanted)


@pytest.mark.parametrize("after", [1, 3, 5])
def test_an_interrupted_folder_is_finished_with_the_same_bytes(
    folder: Path, tmp_path: Path, tiny_model: RestorationModel, after: int
) -> None:
    whole, parted = (frames_job([str(folder)], str(tmp_path / name), WriteOptions()) for name in ("whole", "parted"))
    outcome_of(whole, restorer(tiny_model))
    interrupt(parted, restorer(tiny_model), after)
    outcome = outcome_of(parted, restorer(tiny_model))
    assert outcome.resumed == 3 * ((after - 1) // 3)
    assert contents([each.target for each in parted.frames]) == contents([each.target for each in whole.frames])


def test_frames_of_others_are_not_replaced_unasked(folder: Path, tmp_path: Path, tiny_model: RestorationModel) -> None:
    save_photo(tmp_path / "out" / "f9.png", 8, 8)
    before = (tmp_path / "out" / "f9.png").read_bytes()
    job = frames_job([str(folder)], str(tmp_path / "out"), WriteOptions())
    outcome = outcome_of(job, restorer(tiny_model))
    assert outcome.status == "failed"
    assert "f9.png: it exists already" in str(outcome.error)
    assert (tmp_path / "out" / "f9.png").read_bytes() == before
    assert outcome_of(job, restorer(tiny_model, overwrite=True)).status == "done"


def test_inputs_that_are_no_folder_of_frames_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="takes one folder"):
        frames_job([str(folder / "f9.png")], None, WriteOptions())
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoImagesError):
        frames_job([str(tmp_path / "empty")], None, WriteOptions())
    save_photo(folder / "more" / "a.png", 8, 8)
    with pytest.raises(UsageError, match="one folder is one clip"):
        frames_job([str(folder)], None, WriteOptions())


def test_outputs_of_video_are_named_by_their_inputs(tmp_path: Path) -> None:
    chosen = ClipOptions()
    assert video_jobs(["a/b.mp4"], None, chosen)[0].target == Path("a/b-restored.mp4")
    assert video_jobs(["b.avi"], None, chosen)[0].target == Path("b-restored.mkv")
    assert video_jobs(["b.mp4"], None, ClipOptions(codec="ffv1"))[0].target == Path("b-restored.mkv")
    made = video_jobs(["b.mp4", "c.mov"], str(tmp_path), chosen)
    assert [each.target for each in made] == [tmp_path / "b.mp4", tmp_path / "c.mov"]
    for inputs, output in ((["b.mp4", "c.jpg"], "out"), (["b.mp4", "d/b.mp4"], "out"), (["b.mp4"], "b.avi")):
        with pytest.raises(UsageError):
            video_jobs(inputs, output, chosen)
    with pytest.raises(UsageError, match="replace the input"):
        video_jobs(["b.mp4"], "b.mp4", chosen)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A clip of a variable frame rate, turned, with colour tags and sound."""
    pytest.importorskip("av")
    return save_clip(tmp_path / "clip.mkv", frames=FRAMES, times=[0, 40, 100, 120, 160, 240, 250])


def test_a_video_keeps_times_tags_rotation_and_sound(video: Path, tmp_path: Path, tiny_model: RestorationModel) -> None:
    before = video.read_bytes()
    (job,) = video_jobs([str(video)], str(tmp_path / "out.mkv"), ClipOptions())
    outcome = outcome_of(job, restorer(tiny_model))
    assert (outcome.status, outcome.frames, outcome.notes) == ("done", FRAMES, ())
    given, made = read_clip(video), read_clip(job.target)
    assert made.times == given.times
    assert (made.tags, made.rotation, made.format) == (given.tags, given.rotation, given.format)
    assert made.rotation == 90
    assert made.sound == given.sound != b""
    assert any(not np.array_equal(one, other) for one, other in zip(made.codes, given.codes, strict=True))
    assert video.read_bytes() == before
    assert not list(tmp_path.glob(".out*"))


def test_at_strength_0_the_codes_of_a_video_stay(video: Path, tmp_path: Path, tiny_model: RestorationModel) -> None:
    (job,) = video_jobs([str(video)], str(tmp_path / "out.mkv"), ClipOptions())
    outcome_of(job, restorer(tiny_model, strength=0.0))
    for one, other in zip(read_clip(video).codes, read_clip(job.target).codes, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("after", [2, 4, FRAMES])
def test_an_interrupted_video_is_finished_with_the_same_bytes(
    video: Path, tmp_path: Path, tiny_model: RestorationModel, after: int
) -> None:
    jobs = [
        video_jobs([str(video)], str(tmp_path / name / "out.mkv"), ClipOptions())[0] for name in ("whole", "parted")
    ]
    outcome_of(jobs[0], restorer(tiny_model))
    interrupt(jobs[1], restorer(tiny_model), after)
    assert not jobs[1].target.exists()
    outcome = outcome_of(jobs[1], restorer(tiny_model))
    assert outcome.resumed == 3 * ((after - 1) // 3)
    assert jobs[1].target.read_bytes() == jobs[0].target.read_bytes()


def test_a_clip_begun_with_other_options_is_begun_anew(
    video: Path, tmp_path: Path, tiny_model: RestorationModel
) -> None:
    (job,) = video_jobs([str(video)], str(tmp_path / "out.mkv"), ClipOptions())
    interrupt(job, restorer(tiny_model), 5)
    outcome = outcome_of(job, restorer(tiny_model, strength=0.5))
    assert outcome.resumed == 0
    assert "so it starts again" in outcome.notes[0]


def test_av1_in_mp4_and_a_larger_size(video: Path, tmp_path: Path, tiny_model: RestorationModel) -> None:
    av = pytest.importorskip("av")
    if "libsvtav1" not in av.codecs_available:
        pytest.skip("this build of PyAV has no encoder for AV1")
    (job,) = video_jobs([str(video)], str(tmp_path / "out.mp4"), ClipOptions())
    outcome = outcome_of(job, restorer(tiny_model, scale=2.0))
    assert outcome.status == "done", outcome.error
    made = read_clip(job.target)
    assert made.codes[0].shape == (128, 192)
    assert [time / Fraction(1) for time in made.times] == read_clip(video).times


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [("a.mp4", b"no video at all", "not a video that can be read"), ("b.mkv", None, "there is no such file")],
)
def test_what_is_no_video_fails_with_a_reason(
    tmp_path: Path, tiny_model: RestorationModel, name: str, data: bytes | None, error: str
) -> None:
    pytest.importorskip("av")
    if data is not None:
        (tmp_path / name).write_bytes(data)
    (job,) = video_jobs([str(tmp_path / name)], str(tmp_path / "out.mkv"), ClipOptions())
    outcome = outcome_of(job, restorer(tiny_model))
    assert outcome.status == "failed"
    assert error in str(outcome.error)
    assert name in str(outcome.error)


def test_candidates_are_refused_because_frames_would_be_other_samples(model: RestorationModel) -> None:
    chosen = Restorer(RestoreOptions(candidates=2, steps=2, fidelity=0), device="cpu", model=model)
    with pytest.raises(UsageError, match="the clip would flicker"):
        ClipRestorer(chosen, ClipOptions())
