"""One file restored in strips: surveyed, then restored into the file of its result."""

from dataclasses import dataclass

from sanarestore import images
from sanarestore.engine.jobs import Job, Stamp, readable
from sanarestore.engine.restorer import Restorer
from sanarestore.engine.strips.output import StripOutput
from sanarestore.engine.strips.restoration import restore_in_strips
from sanarestore.engine.strips.survey import Survey, survey
from sanarestore.engine.tiles import Steps
from sanarestore.errors import UnreadableImage
from sanarestore.files import hash_file
from sanarestore.options import WriteOptions


@dataclass(slots=True)
class Surveyed:
    """A file that was read once, and will be restored in strips."""

    survey: Survey
    sha256: str
    stamp: Stamp


def survey_file(job: Job, restorer: Restorer, options: WriteOptions) -> Surveyed | None:
    """Read and hash a file whose header allows strips; None if its content asks to restore it whole.

    UnreadableImage and DamagedImage as from the whole reader; UnwritableImage if the result could not be written.
    """
    with readable(job):
        stamp, sha256 = Stamp.of(job.source), hash_file(job.source)
    with images.opened_in_strips(job.source, job.called) as strips:
        images.check_writable(strips.frame, job.output, format=job.format, options=options)
        if strips.frame.thumbnail is not None and not options.strip:
            return None  # the new thumbnail is made of all pixels
        found = survey(strips, is_corrected=restorer.refinement.is_corrected)
    return None if found.is_hidden else Surveyed(found, sha256, stamp)


def restore_file(
    job: Job,
    restorer: Restorer,
    read: Surveyed,
    frame: images.Image,
    format: images.Format,  # noqa: A002
) -> Steps:
    """Restore a file and write it under its temporary name, yielding (tiles done, total tiles).

    `frame` is the result without its pixels, prepared for the format. UnreadableImage also if the file was changed
    after it was surveyed.
    """
    with images.opened_in_strips(job.source, job.called) as strips, StripOutput(job, frame, format) as output:
        yield from restore_in_strips(restorer, strips, read.survey, output.begin)
    with readable(job):
        if Stamp.of(job.source) != read.stamp:
            raise UnreadableImage(
                "it was changed while it was restored", where=job.called, next_step="Restore it again."
            )
