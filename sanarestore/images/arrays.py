"""Arrays and Pillow images as an Image, and a result as the same kind of object again.

Shape suffixes: H rows, W columns, S stored channels: gray, gray + alpha, RGB, RGB + alpha.
"""

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from sanarestore.errors import UnreadableImage
from sanarestore.images.codes import Stored
from sanarestore.images.image import Image, Metadata, check_size, from_stored, to_stored

if TYPE_CHECKING:
    from PIL import Image as Pillow

Array = TypeVar("Array", bound=npt.NDArray[Any])

DTYPES = ("uint8", "uint16", "float16", "float32")
"""Types of arrays that are restored; float32 holds every value of the other three exactly."""

MODES = ("L", "LA", "RGB", "RGBA", "I;16")
"""Modes of Pillow images that are restored."""

HIGHEST_MEAN = 2.0
"""Mean of a float array above which its values cannot be meant as 0 to 1."""

_EXIF_HEAD = b"Exif\0\0"

_ADVICE = {
    "bool": "It may be a mask; give the photograph.",
    "float64": "Convert it with array.astype('float32').",
}
_WIDE_INTEGERS = (
    "If its values are 0 to 65535, give np.asarray(image).astype('uint16'), or the path of its file; "
    "image.convert would clip them to 255."
)
_ADVICE_FOR_MODES = {
    "I": _WIDE_INTEGERS,
    "I;16B": "Give np.asarray(image), or the path of its file; image.convert would clip its values to 255.",
    "F": "If its values are 0 to 1, give np.asarray(image); divide other values by their largest possible one first.",
    "CMYK": "Give the path of its file, whose colour profile is then used.",
    "LAB": "Give the path of its file, or convert it with PIL.ImageCms.",
    "1": "Convert it with image.convert('L').",
    "La": "Convert it with image.convert('LA').",
}
_ADVICE_FOR_INTEGERS = "Convert it with array.astype('uint8') if its values are 0 to 255, or to 'uint16' up to 65535."


def from_array(array: npt.NDArray[Any]) -> Image:
    """Make an Image of an array [H, W] or [H, W, S] of uint8, uint16, float16 or float32; floats are in [0,1].

    Two channels are gray and alpha, four RGB and alpha, which is not premultiplied. Floats a little outside of [0,1]
    are kept. UnreadableImage for other shapes and types, and for floats whose mean says that they are not in [0,1].

    >>> image = from_array(np.zeros((4, 6, 3), np.uint16))
    >>> image.height, image.width, image.depth
    (4, 6, 'uint16')
    """
    name = array.dtype.newbyteorder("=").name
    where = f"array of shape {array.shape} and type {name}"
    if name not in DTYPES:
        step = _ADVICE.get(name, _ADVICE_FOR_INTEGERS if array.dtype.kind in "iu" else "")
        raise UnreadableImage(f"{_listed(DTYPES)} are restored", where=where, next_step=step)
    if array.ndim not in (2, 3):
        raise UnreadableImage(
            "an image has two or three dimensions", where=where,
            next_step="Give [H, W] or [H, W, channels], one image at a time.",
        )  # fmt: skip
    if array.ndim == 3 and not 1 <= array.shape[2] <= 4:
        raise UnreadableImage(
            f"it has {array.shape[2]} channels, and 1 to 4 are restored", where=where,
            next_step="Give [H, W, channels]; channels that come first need array.transpose(1, 2, 0).",
        )  # fmt: skip
    if array.size == 0:
        raise UnreadableImage("it is empty", where=where, next_step="Check how it was cut out.")
    check_size(*array.shape[:2])
    # torch warns of arrays that it must not write to, such as float32 ones that are taken as they are.
    kept = array.astype("float32" if array.dtype.kind == "f" else name, copy=not array.flags.writeable)
    if kept.dtype == np.float32:
        _check_range(kept, where)
    return from_stored(kept, format="tiff" if kept.dtype == np.float32 else "png", metadata=Metadata())


def to_array(image: Image) -> Stored:
    """Return the pixels of an Image as its depth stores them, [H, W] if gray, otherwise [H, W, S], alpha last."""
    stored_HWS = to_stored(image)
    return stored_HWS[..., 0] if stored_HWS.shape[2] == 1 else stored_HWS


def array_like(image: Image, given: Array) -> Array:
    """Return the pixels of an Image in the type and number of dimensions of the array that it was made of; a copy."""
    stored_HWS = to_stored(image)
    stored_HWS = stored_HWS.astype(given.dtype, copy=np.may_share_memory(stored_HWS, given))
    return stored_HWS[..., 0] if given.ndim == 2 else stored_HWS  # type: ignore[return-value]


def from_pillow(picture: "Pillow.Image") -> Image:
    """Make an Image of a Pillow image, with its profile, EXIF, XMP and resolution; UnreadableImage for other modes."""
    if picture.mode not in MODES:
        target = "RGBA" if picture.has_transparency_data else "RGB"
        raise UnreadableImage(
            f"{_listed(MODES)} are restored", where=f"Pillow image of mode {picture.mode}",
            next_step=_ADVICE_FOR_MODES.get(
                picture.mode, f"Convert it with image.convert('{target}'), or give the path of its file."
            ),
        )  # fmt: skip
    stored = np.asarray(picture)
    if stored.size == 0:
        raise UnreadableImage("it is empty", where="Pillow image", next_step="Check how it was cut out.")
    image = from_array(stored)
    return Image(
        pixels_HWC=image.pixels_HWC, depth=image.depth, format=image.format, alpha_HW=image.alpha_HW,
        metadata=_metadata(picture),
    )  # fmt: skip


def pillow_like(image: Image, given: "Pillow.Image") -> "Pillow.Image":
    """Return an Image as a Pillow image of the mode of the one that it was made of, with its `info`."""
    from PIL import Image as Pillow

    made = Pillow.fromarray(to_array(image))
    assert made.mode == given.mode
    made.info = dict(given.info)
    return made


def _check_range(array: npt.NDArray[Any], where: str) -> None:
    mean = float(array.mean(dtype=np.float64))
    if HIGHEST_MEAN < mean < np.inf:  # the restorer says what is wrong with infinity
        raise UnreadableImage(
            f"its mean is {mean:.4g}, and floats are restored in the range 0 to 1", where=where,
            next_step="Divide it by its largest possible value, such as 255, or give it as uint8.",
        )  # fmt: skip


def _metadata(picture: "Pillow.Image") -> Metadata:
    info = picture.info
    exif, xmp, dpi = info.get("exif"), info.get("xmp", info.get("XML:com.adobe.xmp")), info.get("dpi")
    return Metadata(
        icc=info.get("icc_profile") or None,
        exif=exif.removeprefix(_EXIF_HEAD) or None if isinstance(exif, bytes) else None,
        xmp=xmp.encode() if isinstance(xmp, str) else xmp or None,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and min(dpi) > 0 else None,
    )


def _listed(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
