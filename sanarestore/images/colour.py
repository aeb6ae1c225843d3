"""Conversion of ink and Lab colours to sRGB, at 16 bits through littleCMS, or by formula."""

from functools import cache

import numpy as np

from sanarestore.images.codes import MAXIMUM, Depth, Pixels, Stored, to_float
from sanarestore.images.damage import cut

_ROWS = 2**18
"""Pixels converted at a time, so that temporaries do not grow with the image."""
_CREATED = slice(24, 36)
"""Date of creation in the header of an ICC profile (ICC.1:2022, table 17)."""
_LINEAR, _SRGB_CURVE = 8, 13
_HALF_A_CODE = 65535 / 255 / 2
_PRIMARIES = {
    1: ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
"""Chromaticities of red, green and blue: BT.709, BT.2020 and Display P3 (ITU-T H.273, table 2)."""
_DATE = bytes.fromhex("07d0 0001 0001 0000 0000 0000")


@cache
def srgb_profile() -> bytes:
    """littleCMS's sRGB profile, with a fixed date, so that equal images give equal files."""
    import imagecodecs

    profile: bytes = imagecodecs.cms_profile("srgb")
    return profile[: _CREATED.start] + _DATE + profile[_CREATED.stop :]


def is_srgb(profile: bytes) -> bool:
    """Return whether a profile of RGB or gray equals sRGB to half an 8-bit code; False for a damaged one."""
    import imagecodecs

    space = {b"RGB ": "rgb", b"GRAY": "gray"}.get(profile[16:20])
    if space is None:
        return False
    steps = np.linspace(0, 65535, 9).astype(np.uint16)
    if space == "gray":
        given, expected = steps[None], np.repeat(steps[None, :, None], 3, axis=2)
    else:
        given = expected = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(1, -1, 3)
    try:
        found = imagecodecs.cms_transform(
            given, profile, srgb_profile(), colorspace=space, outcolorspace="rgb", outdtype="uint16",
            intent=imagecodecs.CMS.INTENT.RELATIVE_COLORIMETRIC,
        )  # fmt: skip
    except MemoryError:
        raise
    except Exception:  # the type depends on the library's version
        return False
    return bool(np.abs(found.astype(int) - expected).max() <= _HALF_A_CODE)


def has_profile(primaries: int, transfer: int) -> bool:
    """Return whether `rgb_profile` makes a profile of code points (ITU-T H.273)."""
    return primaries in _PRIMARIES and transfer in (_LINEAR, _SRGB_CURVE)


@cache
def rgb_profile(primaries: int, transfer: int) -> bytes:
    """A profile with a white point of D65 for code points of which `has_profile` is true."""
    import imagecodecs

    x = np.linspace(0, 1, 4096)
    curve = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32)
    xyY = [value for x, y in _PRIMARIES[primaries] for value in (x, y, 1.0)]
    is_linear = transfer == _LINEAR
    profile: bytes = imagecodecs.cms_profile(
        "rgb", whitepoint=[0.3127, 0.3290, 1.0], primaries=xyY, gamma=1.0 if is_linear else None,
        transferfunction=None if is_linear else curve,
    )  # fmt: skip
    return profile[: _CREATED.start] + _DATE + profile[_CREATED.stop :]


def ink_to_rgb(ink_HWS: Stored, profile: bytes | None) -> tuple[Pixels, str]:
    """Convert CMYK codes, of which 0 is no ink, to sRGB values in [0, 1]; returns a note too.

    With a CMYK profile littleCMS converts (relative colorimetric, with black point compensation). Without one each
    colour is (1 - ink)(1 - black), which is approximate.
    """
    if profile is None:
        return _by_formula(ink_HWS), "CMYK is converted to sRGB approximately, because the file has no colour profile"
    if profile[16:20] != b"CMYK":
        note = "CMYK is converted to sRGB approximately, because the file's colour profile is not one for CMYK"
        return _by_formula(ink_HWS), note
    try:
        return _by_profile(ink_HWS, profile, "cmyk"), "CMYK is converted to sRGB by the file's colour profile"
    except MemoryError:
        raise
    except Exception as error:  # the type depends on the library's version
        note = f"CMYK is converted to sRGB approximately, because the file's colour profile is damaged ({cut(error)})"
        return _by_formula(ink_HWS), note


def lab_to_rgb(lab_HWC: Stored, *, is_signed: bool) -> Pixels:
    """Convert CIE L*a*b* codes (D50) to sRGB values in [0, 1].

    L* is 0 to 100. `is_signed` says that a* and b* are signed, in units of 1 (8 bits) or 1/256 (16 bits), as for TIFF's
    photometric interpretation 8; otherwise 128 is added to them, as for 9 (TIFF 6.0, section 23, and its supplement 1).
    """
    import imagecodecs

    is_wide = lab_HWC.dtype == np.uint16
    encoded_HWC = lab_HWC.astype(np.uint16)
    if is_signed:
        encoded_HWC[..., 1:] ^= np.uint16(0x8000 if is_wide else 0x80)
    if is_wide:
        # In 16 bits, TIFF means 1/256 and ICC's version 4 means 1/257.
        ab = encoded_HWC[..., 1:]
        ab[...] = np.minimum(np.rint(ab * (257 / 256)), 65535)
    else:
        encoded_HWC *= np.uint16(257)
    return _by_profile(encoded_HWC, imagecodecs.cms_profile("lab4"), "lab")


def _by_formula(ink_HWS: Stored) -> Pixels:
    depth: Depth = ink_HWS.dtype.name  # type: ignore[assignment]
    rgb_HWC = np.empty((*ink_HWS.shape[:2], 3), np.float32)
    for rows in _strips(ink_HWS):
        clear = 1 - to_float(ink_HWS[rows], depth)
        rgb_HWC[rows] = clear[..., :3] * clear[..., 3:]
    return rgb_HWC


def _by_profile(codes_HWS: Stored, profile: bytes, space: str) -> Pixels:
    import imagecodecs

    kinds = imagecodecs.CMS
    rgb_HWC = np.empty((*codes_HWS.shape[:2], 3), np.float32)
    for rows in _strips(codes_HWS):
        converted = imagecodecs.cms_transform(
            np.ascontiguousarray(codes_HWS[rows]), profile, srgb_profile(), colorspace=space, outcolorspace="rgb",
            outdtype="uint16", intent=kinds.INTENT.RELATIVE_COLORIMETRIC, flags=kinds.FLAGS.BLACKPOINTCOMPENSATION,
        )  # fmt: skip
        np.divide(converted, np.float32(MAXIMUM["uint16"]), out=rgb_HWC[rows])
    return rgb_HWC


def _strips(codes_HWS: Stored) -> list[slice]:
    count = max(_ROWS // max(codes_HWS.shape[1], 1), 1)
    return [slice(top, top + count) for top in range(0, len(codes_HWS), count)]
