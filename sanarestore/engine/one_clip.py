"""`sanarestore.restore_clip`: restore one clip from Python, in this process."""

from collections.abc import Callable
from dataclasses import fields
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Unpack

from sanarestore.engine.clip_jobs import ClipOutcome, frames_job, video_jobs
from sanarestore.engine.clips import ClipRestorer
from sanarestore.engine.keywords import BatchKeywords
from sanarestore.engine.python_words import keywords_named
from sanarestore.engine.restorer import Restorer
from sanarestore.options import BatchOptions, ClipOptions, RestoreOptions, WriteOptions

_WRITE_FIELDS = frozenset(field.name for field in fields(WriteOptions))
_OWN = ("output", "prompt", "temporal", "codec", "device", "overwrite", "accept_damaged")
_KNOWN = frozenset((*_OWN, *_WRITE_FIELDS, *(field.name for field in fields(RestoreOptions))))


def restore_clip(
    clip: str | PathLike[str],
    *,
    output: str | PathLike[str] | None = None,
    prompt: str | None = None,
    temporal: float = 1.0,
    codec: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
    accept_damaged: bool = False,
    progress: Callable[[float], object] | None = None,
    **options: Unpack[BatchKeywords],
) -> ClipOutcome:
    """Restore a video file, or a folder of frames, as `sanarestore restore` does; returns the outcome.

    `temporal` is the strength of the filter over time, and `codec` is ffv1, av1 or an encoder of PyAV. `progress` is
    called with the fraction that is done. The other `options` are the fields of `RestoreOptions`, and for frames those
    of `WriteOptions`. An interrupted run is continued. A clip that cannot be restored has the status
    "failed"; UsageError for options and inputs that are wrong, WeightsError if weights are missing.

    >>> restore_clip("clip.mp4", output="out.mkv", prompt="remove noise").status    # doctest: +SKIP
    'done'
    """
    given: dict[str, Any] = dict(options)
    with keywords_named(_KNOWN):
        write = WriteOptions(**{name: given.pop(name) for name in _WRITE_FIELDS & given.keys()})
        chosen = BatchOptions(write=write, overwrite=overwrite, accept_damaged=accept_damaged)
        how = ClipOptions(temporal=temporal, codec=codec)
        source, target = fspath(clip), None if output is None else fspath(output)
        is_folder = Path(source).is_dir()
        job = frames_job([source], target, write) if is_folder else video_jobs([source], target, how)[0]
        restorer = ClipRestorer(Restorer(RestoreOptions(prompt=prompt, **given), device=device), how, chosen)
        for event in restorer.restore(job):
            if isinstance(event, ClipOutcome):
                return event
            if progress is not None:
                progress(event.done / event.total)
    raise AssertionError("a clip has an outcome")
