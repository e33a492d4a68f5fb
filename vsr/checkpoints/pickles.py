"""What the pickle of a `.pth` names and does, told from its opcodes before it is run. No torch.

PyTorch's restricted unpickler runs no code, but it makes whatever tensors, storages and byte arrays
a file of a hundred bytes asks for. The weights of a network need an ordered dict, the rebuilding of
tensors from bytes of the file, and the names of types. Sparse and quantised tensors pass here and
are refused by their own names later.
"""

import io
import pickletools
import re
import zipfile
from typing import BinaryIO

from vsr.errors import CheckpointError

_MOST_BYTES = 64 << 20
"""Largest pickle within an archive: names and shapes, the numbers lie beside."""
_PARTS = 5
"""Pickles of a file without an archive: magic, version, system, what was saved, its storages."""
_ALLOWED = re.compile(
    r"collections (OrderedDict|Counter)"
    r"|(__builtin__|builtins) (set|complex)"
    r"|torch\._utils _rebuild_(tensor|tensor_v2|tensor_v3|parameter|sparse_tensor|qtensor)"
    r"|torch\.serialization _get_layout"
    r"|torch\.nn\.parameter Parameter"
    r"|torch(\.storage|\.cuda)? \w+Storage"
    r"|torch (Size|device|b?float\w*|double|half|u?int\d+|long|short|bool)"
)
_SIZED = ("TypedStorage", "UntypedStorage")
"""Storages that are made by their size alone."""
_REFUSED = frozenset(
    {"INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "STACK_GLOBAL", "PERSID"}
)
"""Opcodes that make objects of other kinds, or name them in a way that is not seen here."""


def check_zipped(file: BinaryIO) -> None:
    """Checks the pickle within an archive that `check_zip` has passed.

    Args:
        file: The archive; is left anywhere.

    Raises:
        CheckpointError: It is damaged, too large, or names or does what no weights need.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            record = next(r for r in archive.infolist() if r.filename.endswith("/data.pkl"))
            if record.file_size > _MOST_BYTES:
                msg = f"has a pickle of {record.file_size} bytes, at most {_MOST_BYTES} are read"
                raise CheckpointError(msg)
            data = archive.read(record)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError, EOFError) as error:
        msg = "is a cut or damaged PyTorch checkpoint: download it again"
        raise CheckpointError(msg) from error
    check_pickle(io.BytesIO(data))


def check_bare(file: BinaryIO) -> None:
    """Checks the pickles at the start of a file that is no archive.

    Args:
        file: At its start; is left anywhere.

    Raises:
        CheckpointError: As `check_zipped`.
    """
    for _ in range(_PARTS):
        check_pickle(file)


def check_pickle(file: BinaryIO) -> None:
    """Reads the opcodes of one pickle.

    Args:
        file: At its first byte; is left behind its last.

    Raises:
        CheckpointError: As `check_zipped`.
    """
    try:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "GLOBAL":
                _check_name(str(argument))
            elif opcode.name in _REFUSED:
                raise _refused(opcode.name)
    except (ValueError, OverflowError, MemoryError) as error:
        raise _refused() from error


def _check_name(name: str) -> None:
    if _ALLOWED.fullmatch(name) is None or name.endswith(_SIZED):
        raise _refused(name.replace(" ", "."))


def _refused(what: str = "") -> CheckpointError:
    told = f" (`{what[:60]}`)" if what.isprintable() and what else ""
    return CheckpointError(
        f"is damaged or holds more than tensors{told}: code in a checkpoint is never run; "
        "save its state_dict, best as safetensors"
    )
