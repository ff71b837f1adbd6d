"""The body of a Prometheus remote write request (version 0.1.0), written without a library for either of its formats.

It is a protobuf message of four small types, compressed with Snappy. Snappy's format allows pieces that are stored as
they are, and a load test has some hundred figures: so nothing is compressed, and no package is needed.
"""

import struct
from collections.abc import Iterable, Mapping

_PIECE_BYTES = 1 << 16


def write_request(series: Iterable[tuple[Mapping[str, str], float, int]]) -> bytes:
    """`WriteRequest` of series with one sample each: labels (`__name__` included), value, Unix milliseconds."""
    body = bytearray()
    for labels, value, time_ms in series:
        one = bytearray()
        for name, text in sorted(labels.items()):  # receivers rely on the order
            one += _bytes_field(1, _bytes_field(1, name.encode()) + _bytes_field(2, text.encode()))
        one += _bytes_field(2, b"\x09" + struct.pack("<d", value) + b"\x10" + _varint(time_ms))
        body += _bytes_field(1, bytes(one))
    return bytes(body)


def snappy_stored(data: bytes) -> bytes:
    """Snappy's block format, all of it literals."""
    parts = bytearray(_varint(len(data)))
    for at in range(0, len(data), _PIECE_BYTES):
        piece = data[at : at + _PIECE_BYTES]
        # Up to 60 bytes their number less one is in the tag; 61 there: it follows in two bytes.
        size = len(piece) - 1
        parts += (bytes([size << 2]) if size < 60 else bytes([61 << 2]) + struct.pack("<H", size)) + piece
    return bytes(parts)


def _bytes_field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
