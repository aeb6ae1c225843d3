"""Options of a batch of photographs."""

import hashlib
from dataclasses import dataclass

from sanarestore.errors import UsageError
from sanarestore.options.checks import check_flags, check_texts
from sanarestore.options.writing import WriteOptions


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of a batch: number `index`, from 1, of `count` parts that are done by runs of their own."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise UsageError(
                f"{self.index}/{self.count} is no part", where="--shard", next_step="Use 1/4 to 4/4 for four parts."
            )

    def has(self, name: str) -> bool:
        """Whether this part contains the file with a name; each name is in exactly one part, on every machine."""
        digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
        return int.from_bytes(digest[:8]) % self.count == self.index - 1


def parse_shard(text: str) -> Shard:
    """Parse `2/4`; UsageError if it is no such part."""
    index, slash, count = text.partition("/")
    if not slash or not all(each.isascii() and each.isdigit() and len(each) < 10 for each in (index, count)):
        raise UsageError(f"'{text}' is no part", where="--shard", next_step="Use 1/4 to 4/4 for four parts.")
    return Shard(int(index), int(count))


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchOptions:
    """What a user may choose for a batch, beside how a photograph is restored."""

    write: WriteOptions = WriteOptions()  # noqa: RUF009 - frozen
    """How results are written."""
    name: str | None = None
    """Template of the names of results, see `engine.naming`; None keeps the names of inputs."""
    overwrite: bool = False
    """Replace files that exist at the outputs, whoever made them."""
    accept_damaged: bool = False
    """Restore what can be decoded of damaged files, with a note."""
    adopt: bool = False
    """Take over outputs that no journal knows, if their provenance says that the same options and weights made them of
    the same inputs."""
    shard: Shard | None = None
    """The part of the files that this run does; None for all."""
    memory_per_file: int | None = None
    """Bytes that a file may take, by an estimate from its header; None takes what is free when the model is loaded,
    divided by the number of devices."""

    def __post_init__(self) -> None:
        check_texts(self, ("name",))
        check_flags(self, ("overwrite", "accept_damaged", "adopt"))
        if self.adopt and not self.write.provenance:
            raise UsageError(
                "results are recognised by their provenance", where="--adopt", next_step="Add --provenance."
            )
