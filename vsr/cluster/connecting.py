"""Connects to a Ray cluster."""

import importlib
import logging
import os
import socket
from typing import Any, Final
from urllib.parse import urlsplit

from vsr.errors import DeviceError, ToolError, UsageError

_KNOCK: Final = 5.0
"""Seconds for an address to answer."""


def load_ray() -> Any:
    """Imports Ray.

    Raises:
        ToolError: It is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        msg = "Ray is not installed: pip install 'vsr[ray]', here and on all nodes"
        raise ToolError(msg) from error


def connect(address: str) -> Any:
    """Connects to a cluster, unless this process is connected already.

    Args:
        address: `ray://HOST:PORT` of a Ray client server, `HOST:PORT` of a head, or `auto`: the
            cluster that runs on this machine or is named by `RAY_ADDRESS`; else one is started.

    Returns:
        The module `ray`.

    Raises:
        UsageError: Not such an address.
        ToolError: Ray is not installed.
        DeviceError: Nobody answers there.
    """
    ray = load_ray()
    if ray.is_initialized():
        return ray
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False, "namespace": "vsr"}
    if address == "auto":
        try:
            ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), **quiet)
        except ConnectionError:
            ray.init(address="local", include_dashboard=False, **quiet)
        return ray
    _knock(address)
    try:
        ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        msg = f"the Ray cluster at {address} refuses: {reason}"
        raise DeviceError(msg) from error
    return ray


def _knock(address: str) -> None:
    parts = urlsplit(address if "://" in address else f"gcs://{address}")
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in ("ray", "gcs") or not parts.hostname or port is None:
        msg = f"--cluster takes auto, ray://HOST:PORT or HOST:PORT, got {address!r}"
        raise UsageError(msg)
    try:
        socket.create_connection((parts.hostname, port), _KNOCK).close()
    except OSError as error:
        reason = error.strerror or str(error)
        msg = f"no Ray cluster answers at {address} ({reason}): see `ray status` on its head"
        raise DeviceError(msg) from error
