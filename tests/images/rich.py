"""Files with as much metadata as each format holds."""

import io
import struct
import zlib
from hashlib import md5

from PIL import Image as PillowImage

from sanarestore.images import encode, to_float
from sanarestore.images.ifd import ByteLayout, Entry
from sanarestore.images.image import Image, Metadata
from sanarestore.images.tiff import _with_entries
from tests.images.conftest import IPTC, png_chunk, smooth

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
GEO = {
    33550: Entry(12, struct.pack("<3d", 10, 10, 0)),
    33922: Entry(12, struct.pack("<6d", 0, 0, 0, 4e5, 5e6, 0)),
    34735: Entry(3, struct.pack("<8H", 1, 1, 0, 1, 1025, 0, 1, 1)),
    42112: Entry(2, b"<GDALMetadata/>\0"),
    42113: Entry(2, b"0\0"),
}
COLOUR = {
    301: Entry(3, struct.pack("<256H", *range(0, 65536, 256))),
    318: Entry(5, struct.pack("<4L", 3127, 10000, 3290, 10000)),
    319: Entry(5, struct.pack("<12L", 64, 100, 33, 100, 21, 100, 71, 100, 15, 100, 6, 100)),
    532: Entry(5, struct.pack("<12L", 0, 1, 255, 1, 0, 1, 255, 1, 0, 1, 255, 1)),
}
PAGE = {285: Entry(2, b"Page 7\0"), 321: Entry(3, struct.pack("<2H", 10, 245)), 337: Entry(2, b"Press\0")}


def packet(body: str, attributes: str = "") -> bytes:
    """An XMP packet with one description."""
    return (
        f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
        f' <rdf:RDF xmlns:rdf="{RDF}">\n  <rdf:Description rdf:about=""{attributes}>{body}</rdf:Description>\n'
        f' </rdf:RDF>\n</x:xmpmeta>\n{" " * 50}\n<?xpacket end="w"?>'
    ).encode()


def resource(number: int, body: bytes) -> bytes:
    """An image resource of Photoshop."""
    padding = b"\0" * (len(body) % 2)
    return b"8BIM" + struct.pack(">H", number) + b"\0\0" + struct.pack(">L", len(body)) + body + padding


CLIPPING_PATH = resource(1034, b"\1") + resource(2000, b"\0\6" + bytes(24)) + resource(2999, b"\6Path 1\0\0\0\0\0")
EXTENSION = packet("<b:Notes>A long text</b:Notes>", ' xmlns:b="urn:example:b/"')
LABELLED = packet(
    "<dc:format>image/jpeg</dc:format>",
    ' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"'
    ' xmp:Label="Red" xmp:Rating="4"',
)
EXTENDED = packet(
    "",
    ' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Label="Red" xmlns:xmpNote="http://ns.adobe.com/xmp/note/"'
    f' xmpNote:HasExtendedXMP="{md5(EXTENSION).hexdigest().upper()}"',
)


def block() -> bytes:
    """An EXIF block as a camera writes it, without a thumbnail."""
    made = PillowImage.Exif()
    made.endian = "<"
    made[271], made[272], made[274], made[306], made[315] = "ACME", "One", 6, "2024:05:06 07:08:09", "Anna"
    made[34665] = {33434: 0.004, 34855: 400, 36867: "2024:05:06 07:08:09", 37500: b"ACME\0" + bytes(range(99))}
    made[34853] = {1: "N", 2: (48.0, 51.0, 29.5)}
    return made.tobytes().removeprefix(b"Exif\0\0")


TEXTS = (
    (b"tEXt", b"Author\0Anna"), (b"iTXt", b"Title\0\0\0\0\0" + "Über".encode()),
    (b"zTXt", b"Comment\0\0" + zlib.compress(b"job 4711")), (b"tEXt", b"Disclaimer\0As it is"),
    (b"tIME", struct.pack(">HBBBBB", 2024, 5, 6, 7, 8, 9)), (b"sBIT", b"\5\6\5"), (b"bKGD", bytes((0, 1, 0, 2, 0, 3))),
)  # fmt: skip


def files(icc: bytes) -> dict[str, bytes]:
    """A rich file of each format."""
    plain = Image(pixels_HWC=to_float(smooth(), "uint8"), depth="uint8", format="png", lossless=True)

    def made(format: str, **fields: object) -> bytes:  # noqa: A002
        return encode(
            Image(
                pixels_HWC=plain.pixels_HWC, depth="uint8", format=format, lossless=True,  # type: ignore[arg-type]
                metadata=Metadata(icc=icc, dpi=(300.0, 240.0), **fields),  # type: ignore[arg-type]
            )
        )  # fmt: skip

    photoshop = {"iptc": IPTC, "photoshop": CLIPPING_PATH}
    png = made("png", exif=block(), xmp=LABELLED, **photoshop)
    return {
        "tiff": _with_entries(
            io.BytesIO(made("tiff", exif=block(), xmp=LABELLED, **photoshop)), ByteLayout("<"), [GEO | COLOUR | PAGE]
        ),
        "png": png[:33] + b"".join(png_chunk(*each) for each in TEXTS) + png[33:],
        "jpeg": made("jpeg", exif=block(), xmp=EXTENDED, xmp_extension=EXTENSION, comments=(b"job 4711",), **photoshop),
        "webp": made("webp", exif=block(), xmp=LABELLED),
    }
