"""The IDX format of MNIST: one array of numbers, behind a header that says of what type and shape.

Byte 0 and 1 are 0, byte 2 names the type, byte 3 the number of axes; then each axis' length as a 32-bit integer,
then the numbers, the last axis fastest, all of them with the most significant byte first. Source: LeCun, Cortes
and Burges, The MNIST database of handwritten digits.
"""

import gzip
import math
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def decode(data: bytes, source: str) -> NDArray[Any]:
    """The array in the bytes of an IDX file, gzipped or not, in the byte order of this computer.

    `source` names the file in the ValueError for bytes that are no IDX file, too few, or too many.
    """
    data = unpack(data, source)
    if data[:2] != b"\0\0"[: len(data)] or (len(data) > 2 and data[2] not in TYPES):
        raise ValueError(
            f"{source} is not an IDX file: it begins with {data[:4].hex(' ')}, MNIST's images with 00 00 08 03 "
            "and its labels with 00 00 08 01."
        )
    header = 4 + 4 * data[3] if len(data) > 3 else 4
    if len(data) < header:
        raise ValueError(f"{source} is truncated: its header is {header} bytes or more, the file has {len(data)}.")
    shape = np.frombuffer(data, ">u4", data[3], offset=4).tolist()
    dtype = np.dtype(TYPES[data[2]])
    expected = header + dtype.itemsize * math.prod(shape)
    if len(data) != expected:
        fault = "truncated" if len(data) < expected else "too long"
        raise ValueError(f"{source} is {fault}: its header promises {expected} bytes, the file has {len(data)}.")
    numbers = np.frombuffer(data, dtype, offset=header).astype(dtype.newbyteorder("="), copy=False)
    try:
        return numbers.reshape(shape)
    except ValueError as error:  # more axes than NumPy has, or 0 times too many
        raise ValueError(f"{source} is corrupt: there is no array of shape {shape} ({error}).") from None


def unpack(data: bytes, source: str) -> bytes:
    """The bytes themselves, or, where they begin as gzip does, what is in them; ValueError for broken gzip."""
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{source} is a truncated or corrupt gzip file ({error}).") from None
