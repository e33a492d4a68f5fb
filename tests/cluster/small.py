"""A Ray cluster on one slow machine: nodes of one core and little memory."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

STORE = 80 << 20
"""Bytes of each node's object store."""
_PORTS = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port")


def _free_port() -> int:
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        return int(plug.getsockname()[1])


@contextmanager
def patient() -> Iterator[None]:
    """Lets nodes start where processes do so slowly.

    A node waits 15 s for its dashboard agent to say its ports, and dies then
    (ray-project/ray#65983). Here it is told beforehand that there are none.
    """
    from ray._private import services

    real = services.start_raylet

    def start_raylet(*args: Any, **kwargs: Any) -> Any:
        node, session = args[2], Path(args[11])
        for name in _PORTS:
            (session / f"{name}_{node}").write_text("-1")
        return real(*args, **kwargs)

    services.start_raylet = start_raylet
    try:
        yield
    finally:
        services.start_raylet = real


def settings(store: int = STORE) -> dict[str, Any]:
    """Of one node, with so many bytes of object store."""
    return {
        "num_cpus": 1,
        "object_store_memory": store,
        "include_dashboard": False,
        "runtime_env_agent_port": _free_port(),
    }


def environment() -> None:
    """Settings that Ray reads when its first process starts."""
    os.environ.update(
        RAY_agent_register_timeout_ms="300000",
        RAY_raylet_start_wait_time_s="120",
        RAY_memory_monitor_refresh_ms="0",
        RAY_health_check_period_ms="1000",
        RAY_health_check_failure_threshold="20",
        RAY_enable_metrics_collection="0",
        RAY_USAGE_STATS_ENABLED="0",
        RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
    )


@contextmanager
def cluster(nodes: int, *, store: int = STORE, **system: object) -> Iterator[Any]:
    """Starts a cluster of so many nodes and connects to it; ends both.

    Args:
        nodes: How many.
        store: Bytes of each one's object store.
        **system: Ray's own settings.
    """
    environment()
    import ray
    from ray._private import ray_constants
    from ray.cluster_utils import Cluster

    with patient(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_constants, "OBJECT_STORE_MINIMUM_MEMORY_BYTES", 1 << 20)
        head = settings(store) | ({"_system_config": system} if system else {})
        found = Cluster(initialize_head=True, head_node_args=head)
        try:
            for _ in range(nodes - 1):
                found.add_node(**settings(store))
            ray.init(address=found.address, namespace="vsr", log_to_driver=False)
            yield found
        finally:
            ray.shutdown()
            found.shutdown()
