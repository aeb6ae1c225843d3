"""What a result says of how it was made, and results that are recognised by that. Imports no torch."""

from dataclasses import fields
from typing import TYPE_CHECKING

import sanarestore
from sanarestore import images, weights
from sanarestore.engine.jobs import Job, Outcome
from sanarestore.errors import SanarestoreError
from sanarestore.files import hash_file
from sanarestore.options import BLENDING, RestoreOptions, WriteOptions

if TYPE_CHECKING:
    from sanarestore.model.loading import RestorationModel

_BY_HASH = frozenset(("model", "adapter", "autoencoder"))
"""Options that the hash of the weights stands for; their values may be paths of the user's machine."""
_SAME_RESULT = frozenset(("threads", "tile", "tiling", "overlap"))
_TOLD_OF_WRITING = ("format", "quality", "bit_depth", "strip")


def provenance(
    model: "RestorationModel", options: RestoreOptions, write: WriteOptions, sha256: str
) -> images.Provenance:
    """The provenance of the result of an input with this hash: the same on every machine."""
    return images.Provenance(
        version=sanarestore.__version__,
        model=model.name,
        weights=model.fingerprint,
        licence=weights.licence(model.folder),
        options=_recorded(options, write),
        input=sha256,
    )


def adopted(job: Job, options: RestoreOptions, write: WriteOptions, weights_hash: str) -> Outcome | None:
    """The outcome of a job whose output tells that these options and weights made it of this input; otherwise None.

    An output that cannot be read, or only in part, or that has another size, is not recognised. What was edited
    otherwise and kept its provenance is: so such a result is left alone, and never counts as one that may be replaced.
    """
    try:
        found = images.read(job.target)
        record = images.provenance_of(found.metadata)
        if record is None or record.weights != weights_hash or record.options != _recorded(options, write):
            return None
        header = images.measure(job.source)
        sizes = {options.result_size(header.width, header.height), options.result_size(header.height, header.width)}
        if (found.width, found.height) not in sizes or record.input != hash_file(job.source):
            return None
    except (SanarestoreError, OSError):
        return None
    note = "taken over as the result of an earlier run, by its provenance"
    return Outcome(path=job.path, output=job.output, status="skipped", sha256=record.input, notes=(note,))


def _recorded(options: RestoreOptions, write: WriteOptions) -> tuple[tuple[str, str], ...]:
    """Names and values of the options that decide a result, without those that are off."""
    left_out = _BY_HASH | _SAME_RESULT
    if options.candidates == 1:
        left_out |= {"candidates"}
    if options.tiling in BLENDING:
        left_out -= {"tile", "tiling", "overlap"}
    named = [(each.name, getattr(options, each.name)) for each in fields(options) if each.name not in left_out]
    named = [(name, options.judged_by if name == "judge" else value) for name, value in named]
    named += [(name, getattr(write, name)) for name in _TOLD_OF_WRITING]
    return tuple(
        (name, str(value)) for name, value in named if value is not None and value is not False and value != "preserve"
    )
