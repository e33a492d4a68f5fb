"""Packages that only some engines need, imported when one of them is asked for."""

import importlib
import importlib.util
from typing import Any

from vsr.errors import DeviceError, UsageError


def load_package(engine: str, package: str, extra: str) -> Any:
    """Imports an optional package.

    Args:
        engine: Who needs it, for the message.
        package: Name of the module.
        extra: The extra of `vsr` that installs it.

    Raises:
        UsageError: It is not installed.
        DeviceError: It is there and does not work on this machine.
    """
    if not is_installed(package):
        msg = f"engine {engine} is not installed: pip install 'vsr[{extra}]' or use --engine torch"
        raise UsageError(msg)
    try:
        return importlib.import_module(package)
    except (ImportError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        msg = (
            f"engine {engine} is installed but {package} does not start ({reason}): "
            f"reinstall it with pip install 'vsr[{extra}]' or use --engine torch"
        )
        raise DeviceError(msg) from error


def is_installed(package: str) -> bool:
    """Whether a package could be imported, without importing it."""
    return importlib.util.find_spec(package) is not None
