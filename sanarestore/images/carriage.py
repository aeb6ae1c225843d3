"""What becomes of every block of metadata in every format: one table, which writing follows and the manual shows.

A block that a format cannot hold is converted where that says exactly the same, and otherwise left out with a note.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from sanarestore.images import blocks, texts, thumbnail
from sanarestore.images.image import FORMAT_NAMES, WRITTEN, Format, Image
from sanarestore.images.texts import Carried


@dataclass(frozen=True, slots=True)
class Way:
    """The way in which a format holds a block."""

    text: str
    """For the documentation."""
    carry: Callable[[Image, Format], Carried] = lambda image, _: (image.metadata, [])


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """A kind of metadata, and what becomes of it in each format."""

    name: str
    tiff: Way
    png: Way
    jpeg: Way
    webp: Way
    avif: Way | None = None
    """None is as in WebP."""
    jxl: Way | None = None
    """None is as in WebP."""

    def way(self, format: Format) -> Way:  # noqa: A002 - the word users say
        """Return how a format keeps it."""
        ways: dict[Format, Way] = {
            "tiff": self.tiff, "png": self.png, "jpeg": self.jpeg, "webp": self.webp, "avif": self.avif or self.webp,
            "jxl": self.jxl or self.webp,
        }  # fmt: skip
        return ways[format]


def carried(image: Image, format: Format | None = None) -> Image:  # noqa: A002 - the word users say
    """The image with its metadata as a format, the image's own if None, holds it; notes say what is left out."""
    target = format or image.format
    for block in TABLE:
        metadata, notes = block.way(target).carry(image, target)
        if metadata is not image.metadata or notes:
            image = replace(image, metadata=metadata, notes=(*image.notes, *notes))
    return image if image.thumbnail is None else replace(image, thumbnail=None)


_TEXT = Way("XMP, where the property is free, otherwise noted", texts.texts_to_xmp(texts.TEXTS))
_USER_COMMENT = "XMP exif:UserComment, if that is free, otherwise noted"
_COMMENT = Way(_USER_COMMENT, texts.texts_to_xmp(("Comment",)))
_TIME = Way("XMP xmp:ModifyDate, if that is free, otherwise noted", texts.texts_to_xmp(("tIME",)))
_NONE = Way("left out, noted", texts.chunks_left_out)
_IN_EXIF = Way("in the EXIF block")
_THUMBNAIL = Way("made of the result, noted", thumbnail.with_new_thumbnail)

TABLE: tuple[Block, ...] = (
    Block(
        name="ICC profile",
        tiff=Way("tag 34675"), png=Way("iCCP"), jpeg=Way("APP2"), webp=Way("ICCP; a gray profile is refused"),
        avif=Way("colr"), jxl=Way("code points if it is sRGB; others are refused", blocks.without_srgb_profile),
    ),
    Block(
        name="EXIF, with GPS and maker notes",
        tiff=Way("tags of the first directory, 34665 and 34853"), png=Way("eXIf"),
        jpeg=Way("APP1; more than 64 KiB are refused"), webp=Way("EXIF"), avif=Way("Exif item"), jxl=Way("Exif box"),
    ),
    Block(
        name="tags in EXIF's first directory that TIFF defines for pixels, or that are not known",
        tiff=Way("left out; those that are not known are noted", blocks.other_tags_left_out),
        png=Way("in the EXIF block"), jpeg=Way("in the EXIF block"), webp=Way("in the EXIF block"),
    ),
    Block(
        name="XMP",
        tiff=Way("tag 700"), png=Way("iTXt"), jpeg=Way("APP1; more than 64 KiB are refused"), webp=Way("XMP"),
        avif=Way("XMP item"), jxl=Way("xml box"),
    ),
    Block(
        name="extended XMP of JPEG",
        tiff=Way("merged with XMP", blocks.merged_extension), png=Way("merged with XMP", blocks.merged_extension),
        jpeg=Way("APP1"), webp=Way("merged with XMP", blocks.merged_extension),
    ),
    Block(
        name="IPTC",
        tiff=Way("tag 33723"), png=Way("zTXt, raw profile iptc"), jpeg=Way("APP13"),
        webp=Way("left out, noted", blocks.iptc_left_out),
    ),
    Block(
        name="Photoshop's image resources: clipping paths and others",
        tiff=Way("tag 34377"), png=Way("zTXt, raw profile 8bim"), jpeg=Way("APP13"),
        webp=Way("left out, noted", blocks.photoshop_left_out),
    ),
    Block(
        name="resolution", tiff=Way("tags 282, 283, 296"), png=Way("pHYs"), jpeg=Way("JFIF"),
        webp=Way("in the EXIF block", blocks.resolution_in_exif),
    ),
    Block(
        name="comments of JPEG",
        tiff=Way(_USER_COMMENT, texts.comments_to_xmp),
        png=Way("tEXt or iTXt, Comment", texts.comments_to_text), jpeg=Way("COM"),
        webp=Way(_USER_COMMENT, texts.comments_to_xmp),
    ),
    Block(
        name="PNG text Comment",
        tiff=_COMMENT,
        png=Way("as it is"), jpeg=Way("COM", texts.text_to_comment),
        webp=_COMMENT,
    ),
    Block(
        name="PNG text Title, Author, Description, Copyright, Software",
        tiff=_TEXT, png=Way("as it is"),
        jpeg=_TEXT,
        webp=_TEXT,
    ),
    Block(
        name="PNG time (tIME)",
        tiff=_TIME,
        png=Way("as it is: the time of the photograph, as the dates in EXIF are"),
        jpeg=_TIME,
        webp=_TIME,
    ),
    Block(
        name="other PNG text, and sBIT, bKGD, oFFs, pCAL, sCAL, sTER and chunks marked as safe to copy",
        tiff=_NONE, png=Way("as it is; sBIT and bKGD if they fit depth and channels", texts.unfit_chunks_left_out),
        jpeg=_NONE, webp=_NONE,
    ),
    Block(
        name="PNG colour: cICP, sRGB, gAMA, cHRM, mDCV, cLLI",
        tiff=Way("left out, noted unless it is sRGB", blocks.colour_chunks_left_out), png=Way("as it is"),
        jpeg=Way("left out, noted unless it is sRGB", blocks.colour_chunks_left_out),
        webp=Way("left out, noted unless it is sRGB", blocks.colour_chunks_left_out),
        avif=Way("cICP as colr; others left out, noted unless it is sRGB", blocks.code_points_said),
        jxl=Way("left out, noted unless it is sRGB", blocks.colour_chunks_left_out),
    ),
    Block(
        name="TIFF colour tags 290, 318, 319, 532, and at the same depth 291, 301, 321",
        tiff=Way("the same tags", blocks.fitting_codes), png=Way("in the EXIF block", blocks.fitting_codes),
        jpeg=Way("in the EXIF block", blocks.fitting_codes), webp=Way("in the EXIF block", blocks.fitting_codes),
    ),
    Block(
        name="TIFF geo tags 33550, 33920, 33922, 34264, 34735, 34736, 34737, 42112, 42113, 50844",
        tiff=Way("the same tags"), png=_IN_EXIF, jpeg=_IN_EXIF, webp=_IN_EXIF,
    ),
    Block(
        name="TIFF page tags 285, 286, 287, 297, 337, 343, 344, 345",
        tiff=Way("the same tags"), png=_IN_EXIF, jpeg=_IN_EXIF, webp=_IN_EXIF,
    ),
    # The thumbnail comes last, because other steps rebuild the EXIF block.
    Block(
        name="thumbnail in EXIF", tiff=Way("left out, noted", thumbnail.with_new_thumbnail),
        png=_THUMBNAIL, jpeg=_THUMBNAIL, webp=_THUMBNAIL,
    ),
)  # fmt: skip

NEVER: tuple[tuple[str, str], ...] = (
    ("thumbnails in JFIF, Photoshop's resources and XMP", "they show the photograph before restoring"),
    ("gain maps, motion photos and other pictures that follow the photograph", "they do not fit the restored one"),
    ("what XMP says of those", "the result does not have them"),
    ("extended XMP of which a part is missing", "it cannot be put together"),
    ("Photoshop's layers (TIFF tag 37724) and pictures inside a page (tag 330)", "they show it before restoring"),
    ("content credentials (C2PA)", "their signature holds for the original bytes only"),
    ("other APP segments of JPEG, other tags of TIFF, other chunks of WebP", "it is not known whether they still fit"),
    ("PNG chunks marked as unsafe to copy", "they may not fit the restored pixels"),
)
"""What is left out whatever the format, with a note, and why."""


def as_markdown() -> str:
    """The table for the documentation."""
    rows = (f"| {each.name} | {' | '.join(each.way(one).text for one in WRITTEN)} |" for each in TABLE)
    names = " | ".join(FORMAT_NAMES[each] for each in WRITTEN)
    lines = [f"| metadata | {names} |", "|---" * (1 + len(WRITTEN)) + "|", *rows]
    lines += ["", "| never carried | why |", "|---|---|", *(f"| {what} | {why} |" for what, why in NEVER)]
    return "\n".join(lines) + "\n"
