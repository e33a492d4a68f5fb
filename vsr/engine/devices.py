"""Which devices there are, and which precision a network runs in on each."""

import os
import platform
from dataclasses import dataclass
from typing import Literal

import torch

from vsr.errors import DeviceError, UsageError
from vsr.models._base import InputSpec

type Precision = Literal["fp32", "fp16", "bf16", "int8"]

_MOST_WORKERS = 4

DTYPES: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """One device, for people.

    Attributes:
        name: What `--device` takes.
        description: Product name.
        memory_bytes: Memory of the device, or of the machine for the CPU.
        features: What matters for speed, such as `bf16`.
    """

    name: str
    description: str
    memory_bytes: int
    features: tuple[str, ...] = ()


def devices() -> tuple[DeviceFacts, ...]:
    """Lists every device that a network can run on, the CPU last."""
    found = [_cuda_facts(index) for index in range(torch.cuda.device_count())]
    return (*found, _cpu_facts())


def resolve_device(name: str) -> torch.device:
    """Turns `auto`, `cpu`, `cuda` or `cuda:N` into a device that is there.

    Raises:
        DeviceError: No such device on this machine.
        UsageError: Not a device name.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()):
        msg = f"unknown device {name!r}: use auto, cpu, cuda or cuda:N (see `vsr devices`)"
        raise UsageError(msg)
    if kind == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(index or 0) >= count:
        msg = f"device {name!r} is not there: {count} CUDA devices found; use --device cpu"
        raise DeviceError(msg)
    return torch.device("cuda", int(index or 0))


def resolve_devices(names: str) -> tuple[torch.device, ...]:
    """Turns a list such as `cuda:0,cuda:1,cpu` into devices that are there.

    Args:
        names: Joined by commas; `cpu` may come several times, and shares the cores then.

    Raises:
        DeviceError: One of them is not on this machine.
        UsageError: No list of devices, or one that names a GPU twice.
    """
    listed = [name.strip() for name in names.split(",")]
    if not all(listed):
        msg = f"{names!r} names no device in one place: write for example cuda:0,cuda:1 or cpu,cpu"
        raise UsageError(msg)
    if len(listed) > 1 and "auto" in listed:
        msg = f"auto cannot be one of several devices, got {names!r}: name each (see `vsr devices`)"
        raise UsageError(msg)
    found = [resolve_device(name) for name in listed]
    gpus = [str(device) for device in found if device.type == "cuda"]
    twice = next((name for name in gpus if gpus.count(name) > 1), None)
    if twice is not None:
        msg = f"{twice} is named twice in {names!r}: name each GPU once"
        raise UsageError(msg)
    return tuple(found)


def kind_of(device: torch.device) -> str:
    """What a device is; those of one kind compute the same bits."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def described(names: str) -> str:
    """Which devices compute, as far as that decides about bytes: of equal ones, the first.

    Args:
        names: As `resolve_devices` takes them.

    Raises:
        DeviceError: See `resolve_devices`.
        UsageError: See `resolve_devices`.
    """
    known = {fact.name: fact.description for fact in devices()}
    firsts: dict[str, str] = {}
    for device in resolve_devices(names):
        name = str(device)
        firsts.setdefault(kind_of(device), f"{name} ({known.get(name, name)})")
    return " and ".join(firsts.values())


def resolve_precision(name: str, device: torch.device, spec: InputSpec) -> Precision:
    """Chooses the fastest safe precision, or checks a requested one.

    fp16 is taken on CUDA where the architecture allows it; bf16 on CUDA from compute capability
    8.0, and on processors with AVX-512-BF16 (without it, bf16 is several times slower than fp32).
    int8 is taken only where it was asked for; it is for engines that round a network to eight bits.

    Raises:
        UsageError: Not a precision, or not safe for this network.
        DeviceError: The device cannot compute in it.
    """
    if name == "auto":
        return _fastest(device, spec)
    if name == "fp32":
        return "fp32"
    if name == "fp16":
        if not spec.half:
            msg = "this network overflows in fp16: use --precision bf16 or fp32"
            raise UsageError(msg)
        if device.type == "cpu":
            msg = "the CPU computes fp16 far slower than fp32: use --precision bf16 or fp32"
            raise DeviceError(msg)
        return "fp16"
    if name == "bf16":
        return "bf16"
    if name == "int8":
        if device.type != "cpu":
            msg = f"int8 is for processors, not for {device}: use --precision fp16 or --device cpu"
            raise DeviceError(msg)
        return "int8"
    msg = f"unknown precision {name!r}: use auto, fp32, fp16, bf16 or int8"
    raise UsageError(msg)


def _fastest(device: torch.device, spec: InputSpec) -> Precision:
    if device.type == "cpu":
        return "bf16" if cpu_has_bf16() else "fp32"
    capability = torch.cuda.get_device_capability(device)
    if spec.half and capability >= (7, 0):
        return "fp16"
    return "bf16" if capability >= (8, 0) else "fp32"


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 natively."""
    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


def free_memory(device: torch.device) -> int:
    """Bytes that a job may plan with: free memory of a GPU, available memory of the machine."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return _available_host_memory()


def _available_host_memory() -> int:
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123 - not a real file
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return _host_memory() // 2


def _host_memory() -> int:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 8 << 30


def _cpu_facts() -> DeviceFacts:
    capabilities = torch.cpu.get_capabilities()
    named = [
        key for key in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if capabilities.get(key)
    ]
    name = capabilities.get("cpu_name") or platform.processor() or platform.machine()
    return DeviceFacts(
        name="cpu",
        description=f"{name}, {os.cpu_count()} threads",
        memory_bytes=_host_memory(),
        features=tuple(named),
    )


def _cuda_facts(index: int) -> DeviceFacts:
    properties = torch.cuda.get_device_properties(index)
    features = [f"sm_{properties.major}{properties.minor}", "fp16"]
    if properties.major >= 8:
        features.append("bf16")
    return DeviceFacts(
        name=f"cuda:{index}",
        description=properties.name,
        memory_bytes=properties.total_memory,
        features=tuple(features),
    )


def most_workers(device: torch.device) -> int:
    """How many frames to compute side by side, each on an equal share of the CPU's threads.

    A thread for each frame is fastest, but every frame costs memory.
    """
    return min(_MOST_WORKERS, torch.get_num_threads()) if device.type == "cpu" else 1
