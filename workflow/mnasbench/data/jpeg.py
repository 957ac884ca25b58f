"""A JPEG file without its last rows, so that a decoder does not spend time on what a crop does not keep.

A baseline JPEG is decoded from the top, and the decoder stops after as many rows as the header says. A header that
says fewer gives the same rows, bit for bit, but for those at the new end where colours of lower resolution are
interpolated from the row below; so one more row of blocks is kept.
"""

import struct

_BASELINE = (0xC0, 0xC1)  # SOF0 and SOF1: Huffman codes, from top to bottom; progressive ones must be read whole
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_FRAME = struct.Struct(">BHHB")  # bits, height, width, components
_END = b"\xff\xd9"


def without_last_rows(content: bytes, rows: int) -> bytes | None:
    """The same JPEG with about its first ``rows`` rows, at least these; None where it must be decoded whole.

    None also for what does not end as a JPEG ends: whoever decodes all of it says that it is cut short.
    """
    frame = _frame(content)
    if frame is None or not content.endswith(_END):
        return None
    at, height, tallest = frame
    block = 8 * tallest
    kept = -(-rows // block) * block + (block if tallest > 1 else 0)
    if kept >= height:
        return None
    return content[: at + 1] + struct.pack(">H", kept) + content[at + 3 :]


def _frame(content: bytes) -> tuple[int, int, int] | None:
    """Where a baseline frame's header begins, its height, and its largest vertical sampling factor."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if marker in _FRAMES:
            begin = at + 4
            if marker not in _BASELINE or begin + _FRAME.size > len(content):
                return None
            bits, height, _, components = _FRAME.unpack_from(content, begin)
            factors = [content[begin + _FRAME.size + 3 * i + 1] & 15 for i in range(components)]
            usual = bits == 8 and length == 2 + _FRAME.size + 3 * components and all(1 <= one <= 2 for one in factors)
            return (begin, height, max(factors)) if usual and factors else None
        at += 2 + length
    return None
