"""`sanarestore.restore_files`: restore many files from Python, as the command does. Imports no torch."""

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import fields, replace
from os import PathLike, fspath
from typing import Any, Unpack

from sanarestore.engine import workers
from sanarestore.engine.batch import Batch
from sanarestore.engine.jobs import Outcome
from sanarestore.engine.keywords import BatchKeywords
from sanarestore.engine.python_words import in_python, keywords_named
from sanarestore.engine.ray_crew import RayCluster, parse_cluster
from sanarestore.errors import NoImagesError, UsageError
from sanarestore.options import BatchOptions, Judge, RestoreOptions, Shard, WriteOptions, parse_shard
from sanarestore.sizes import parse_size

_WRITE_FIELDS = frozenset(field.name for field in fields(WriteOptions))
_OWN = (
    "paths", "output", "prompt", "devices", "overwrite", "accept_damaged", "adopt", "shard", "name", "memory_per_file",
    "ray",
)  # fmt: skip
_KNOWN = frozenset((*_OWN, *_WRITE_FIELDS, *(field.name for field in fields(RestoreOptions))))


def restore_files(
    paths: Iterable[str | PathLike[str]] | str | PathLike[str],
    *,
    output: str | PathLike[str] | None = None,
    prompt: str | None = None,
    devices: str | Sequence[str] = "auto",
    overwrite: bool = False,
    accept_damaged: bool = False,
    adopt: bool = False,
    shard: str | tuple[int, int] | Shard | None = None,
    name: str | None = None,
    memory_per_file: str | int | None = None,
    ray: str | None = None,
    **options: Unpack[BatchKeywords],
) -> Generator[Outcome, None, None]:
    """Restore files, folders, patterns and lists as `sanarestore restore` does; iterate over the outcomes of the files.

    `options` are the fields of `RestoreOptions` and `WriteOptions`; `ray` is the address of a Ray cluster, used instead
    of `devices`. `devices` is a text such as "cuda:0,cuda:1" or a list of names, `shard` is a text such as "1/4" or a
    pair such as (1, 4), and `memory_per_file` is a text such as "8G" or a number of bytes. Finished files are skipped,
    and nothing is shown. Closing the iterator early ends the work. The errors of `Batch` are raised at once, those of
    `Batch.run` by the iterator.

    >>> for outcome in restore_files("shoot", output="restored", prompt="remove noise"):    # doctest: +SKIP
    ...     print(outcome.path, outcome.status)
    """
    given: dict[str, Any] = dict(options)
    with keywords_named(_KNOWN):
        write = WriteOptions(**{field: given.pop(field) for field in _WRITE_FIELDS & given.keys()})
        chosen = BatchOptions(
            write=write, name=name, overwrite=overwrite, accept_damaged=accept_damaged, adopt=adopt,
            shard=_shard(shard), memory_per_file=_bytes(memory_per_file),
        )  # fmt: skip
        if isinstance(given.get("judge"), Judge):
            raise UsageError(
                "workers import a judge by its name", where="judge", next_step="Name it as 'module:object'."
            )
        where = workers.parse_devices(_devices(devices)) if ray is None else parse_cluster(ray)
        batch = Batch(_inputs(paths), _output(output), RestoreOptions(prompt=prompt, **given), chosen)
    return _outcomes(batch, where)


def _outcomes(batch: Batch, devices: Sequence[str] | RayCluster) -> Generator[Outcome, None, None]:
    with keywords_named(_KNOWN), closing(batch.run(devices)) as events:
        for event in events:
            if isinstance(event, Outcome):
                error = None if event.error is None else in_python(event.error, _KNOWN)
                yield replace(event, error=error, notes=tuple(in_python(note, _KNOWN) for note in event.notes))


def _inputs(paths: Any) -> list[str]:
    if isinstance(paths, str | PathLike):
        return [_path(paths, "paths")]
    if isinstance(paths, bytes) or not isinstance(paths, Iterable):
        raise UsageError(f"{paths!r} is not a path", where="paths", next_step="Give a path, or a list of paths.")
    names = [_path(each, "paths") for each in paths]
    if not names:
        raise NoImagesError(
            "the list is empty",
            where="paths",
            next_step="Give files, folders, patterns or lists.",
        )
    return names


def _output(output: Any) -> str | None:
    if output is None:
        return None
    name = _path(output, "output")
    if name == "-":
        raise UsageError(
            "'-' means stdout, to which only the command writes", where="output",
            next_step="Name a folder or a file; restore() returns a result without writing it.",
        )  # fmt: skip
    return name


def _path(given: Any, keyword: str) -> str:
    name = fspath(given) if isinstance(given, str | PathLike) else None
    if not isinstance(name, str):
        raise UsageError(f"{given!r} is not a path", where=keyword, next_step="Give a text or a pathlib.Path.")
    return name


def _devices(devices: Any) -> str:
    if isinstance(devices, str):
        return devices
    if isinstance(devices, Iterable) and not isinstance(devices, bytes):
        names = [str(each) for each in devices]
        if names:
            return ",".join(names)
    raise UsageError(
        f"{devices!r} is not a device", where="devices", next_step="Give 'cpu', 'cuda:0,cuda:1' or a list of names."
    )


def _shard(shard: Any) -> Shard | None:
    if shard is None or isinstance(shard, Shard):
        return shard
    if isinstance(shard, str):
        return parse_shard(shard)
    if isinstance(shard, Sequence) and len(shard) == 2 and all(type(each) is int for each in shard):
        return Shard(*shard)
    raise UsageError(
        f"{shard!r} is not a valid part", where="shard", next_step="Use '1/4' to '4/4', or (1, 4) to (4, 4)."
    )


def _bytes(size: Any) -> int | None:
    if size is None:
        return None
    if isinstance(size, str):
        return parse_size(size, "memory_per_file")
    if type(size) is int and size > 0:
        return size
    raise UsageError(
        f"{size!r} is not a valid size",
        where="memory_per_file",
        next_step="Give a number of bytes, or a text such as '8G'.",
    )
