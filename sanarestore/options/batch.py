"""Options of a batch of photographs."""

import hashlib
from dataclasses import dataclass

from sanarestore.errors import UsageError
from sanarestore.options.checks import check_flags, check_texts
from sanarestore.options.writing import WriteOptions


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `index`, from 1, of a batch that `count` separate runs share."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise UsageError(
                f"{self.index}/{self.count} is not a valid part",
                where="--shard",
                next_step="Use 1/4 to 4/4 for four parts.",
            )

    def has(self, name: str) -> bool:
        """Return whether a file of this name belongs to this part; every name belongs to exactly one, on every
        machine."""
        digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
        return int.from_bytes(digest[:8]) % self.count == self.index - 1


def parse_shard(text: str) -> Shard:
    """Parse `2/4`; UsageError for any other text."""
    index, slash, count = text.partition("/")
    if not slash or not all(each.isascii() and each.isdigit() and len(each) < 10 for each in (index, count)):
        raise UsageError(f"'{text}' is not a valid part", where="--shard", next_step="Use 1/4 to 4/4 for four parts.")
    return Shard(int(index), int(count))


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchOptions:
    """Options of a batch, besides those that decide how a photograph is restored."""

    write: WriteOptions = WriteOptions()  # noqa: RUF009 - frozen
    """Options of writing results."""
    name: str | None = None
    """Template of the names of results, see `engine.naming`; None keeps the names of inputs."""
    overwrite: bool = False
    """Replace files that exist at the outputs, whoever made them."""
    accept_damaged: bool = False
    """Restore what can be decoded of damaged files, with a note."""
    adopt: bool = False
    """Accept outputs that no journal knows, if their provenance names the same input, options and weights."""
    shard: Shard | None = None
    """The part of the files that this run restores; None for all."""
    memory_per_file: int | None = None
    """Bytes of memory that a file may need, by an estimate from its header; None for the memory that is free once the
    model is loaded, divided by the number of devices."""

    def __post_init__(self) -> None:
        check_texts(self, ("name",))
        check_flags(self, ("overwrite", "accept_damaged", "adopt"))
        if self.adopt and not self.write.provenance:
            raise UsageError(
                "results are recognised by their provenance", where="--adopt", next_step="Add --provenance."
            )
