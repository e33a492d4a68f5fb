"""NumPy's `.npz`: arrays by name, never objects. Free of torch."""

import io
import math
import tokenize
import warnings
import zipfile
import zlib
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from vsr.checkpoints.containers import shortened
from vsr.errors import CheckpointError

_MOST_ARRAYS = 1 << 12
_MOST_GROWTH = 8
"""How much larger than the file its unpacked arrays may be: weights hardly compress."""
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""What `numpy.savez` and `numpy.savez_compressed` write."""
_DAMAGED = (
    *(zipfile.BadZipFile, NotImplementedError, ValueError, OSError, EOFError),  # archive and header
    *(zlib.error, SyntaxError, TypeError, RecursionError, tokenize.TokenError),  # records, headers
)


def is_numpy(file: BinaryIO) -> bool:
    """Whether a zip archive holds nothing but `.npy` records."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, EOFError):
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def read_numpy(file: BinaryIO) -> dict[str, NDArray[Any]]:
    """Reads all arrays of an `.npz` file.

    Args:
        file: Is left anywhere.

    Returns:
        Arrays by name, floating point.

    Raises:
        CheckpointError: The archive is damaged, grows too large, or holds anything but numbers.
    """
    size = file.seek(0, 2)
    try:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
            total = sum(record.file_size for record in records)
            if len(records) > _MOST_ARRAYS or total > _MOST_GROWTH * size:
                msg = f"claims {len(records)} arrays of {total} bytes in a file of {size}: refused"
                raise CheckpointError(msg)
            if any(r.flag_bits & 1 or r.compress_type not in _METHODS for r in records):
                msg = "holds records that are encrypted or packed in a way that NumPy never uses"
                raise CheckpointError(msg)
            return {
                record.filename.removesuffix(".npy"): _array(archive, record) for record in records
            }
    except _DAMAGED as error:
        msg = "is a cut or damaged NumPy archive: download it again"
        raise CheckpointError(msg) from error


def _array(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> NDArray[Any]:
    data = archive.read(record)
    stream = io.BytesIO(data)
    version = npy.read_magic(stream)
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about headers of Python 2; nothing to act on
        shape, fortran, dtype = header(stream)
    content = data[stream.tell() :]
    if not np.issubdtype(dtype, np.floating):
        kind = f"type {shortened(str(dtype))}"
        what = "objects, which are never read" if dtype.hasobject else kind
        msg = f"has {shortened(record.filename)} of {what}, expected floating point"
        raise CheckpointError(msg)
    if math.prod(shape) * dtype.itemsize != len(content):
        msg = f"has {len(content)} bytes in {shortened(record.filename)}, whose shape needs others"
        raise CheckpointError(msg)
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
