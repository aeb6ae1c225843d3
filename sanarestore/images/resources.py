"""Photoshop image resources ("8BIM"), the container of IPTC records in JPEG and PNG files."""

import struct

_MARK, _IPTC = b"8BIM", 0x0404


def iptc_of(resources: bytes) -> bytes | None:
    """The IPTC records among the resources; None if there are none."""
    at = 0
    while resources[at : at + 4] == _MARK and at + 12 <= len(resources):
        (number,) = struct.unpack_from(">H", resources, at + 4)
        body = at + 6 + _even(1 + resources[at + 6])
        if body + 4 > len(resources):
            return None
        (length,) = struct.unpack_from(">L", resources, body)
        if number == _IPTC:
            return resources[body + 4 : body + 4 + length] or None
        at = body + 4 + _even(length)
    return None


def with_iptc(records: bytes) -> bytes:
    """Wrap IPTC records as the only resource."""
    return _MARK + struct.pack(">HHL", _IPTC, 0, len(records)) + records.ljust(_even(len(records)), b"\0")


def _even(length: int) -> int:
    return length + length % 2
