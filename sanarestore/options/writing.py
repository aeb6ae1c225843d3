"""Options that decide how a result is written."""

import dataclasses
import hashlib
import json
import numbers
from dataclasses import dataclass

from sanarestore.errors import UsageError
from sanarestore.options.checks import check_flags, check_numbers
from sanarestore.options.choices import (
    BIT_DEPTHS,
    LOSSLESS,
    MOST_BITS,
    OUTPUT_FORMATS,
    OutputFormat,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class WriteOptions:
    """Options that decide how a result is written to its file."""

    format: OutputFormat = "preserve"
    """Format of the result; preserve keeps the input's, unless the name of a single output has another suffix."""
    quality: int | None = None
    """Quality of JPEG, WebP, AVIF and JPEG XL, from 1 to 100; None for the input's own quality, raised to a high one if
    it is lower."""
    bit_depth: int | None = None
    """Bits of each value, 8 or 16; None keeps the input's depth."""
    keep_dates: bool = False
    """Copy the times of the last change and last access of the input to the result."""
    strip: bool = False
    """Write only metadata that decides the look: colour profile, colour tags and orientation."""
    provenance: bool = False
    """Record in XMP how the photograph was restored: version, model, hash of the weights, licence and options."""

    def __post_init__(self) -> None:
        check_numbers(self, ("quality", "bit_depth"), numbers.Integral)
        check_flags(self, ("keep_dates", "strip", "provenance"))
        if self.format not in OUTPUT_FORMATS:
            raise UsageError(
                f"'{self.format}' is not {', '.join(OUTPUT_FORMATS[:-1])} or {OUTPUT_FORMATS[-1]}", where="--format"
            )
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UsageError(f"{self.quality} is outside 1 to 100", where="--quality")
        if self.quality is not None and self.format in LOSSLESS:
            raise UsageError(
                f"{self.format.upper()} is written without loss and has no quality", where="--quality",
                next_step="Leave it out, or use --format jpeg, webp, avif or jxl.",
            )  # fmt: skip
        if self.bit_depth is not None and self.bit_depth not in BIT_DEPTHS:
            raise UsageError(f"{self.bit_depth} is not keep, 8 or 16", where="--bit-depth")
        if self.bit_depth == 16 and self.format in MOST_BITS:
            raise UsageError(
                f"{self.format.upper()} holds {MOST_BITS[self.format]} bits at most", where="--bit-depth",
                next_step="Use --format tiff or png for 16 bits.",
            )  # fmt: skip

    def fingerprint(self) -> str:
        """Hash of all options that change the bytes of the result."""
        chosen = dataclasses.asdict(self)
        del chosen["keep_dates"]
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()


def parse_bit_depth(text: str) -> int | None:
    """Parse `keep`, `8` or `16`, the values of `--bit-depth`; None for `keep`, UsageError for others."""
    if text == "keep":
        return None
    if text not in map(str, BIT_DEPTHS):
        raise UsageError(f"'{text}' is not keep, 8 or 16", where="--bit-depth")
    return int(text)
