"""What the official implementations compute, by the weights they were given, in float32.

The networks here work in [0, 1]; an implementation of another range is given and gives its own.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from vsr.models import build, detect


@dataclass(frozen=True)
class Case:
    """An architecture, the value of white, the tolerance in [0, 1] and what only a header tells."""

    id: str
    white: float = 1.0
    tolerance: float = 1e-5
    hints: Mapping[str, Any] = field(default_factory=dict)


CASES = {
    "srvgg_x1_prelu": Case("compact"),
    "srvgg_x2_prelu": Case("compact"),
    "srvgg_x2_relu": Case("compact"),
    "srvgg_x4_prelu": Case("compact"),
    "rrdbnet_x4": Case("rrdb"),
    "rrdbnet_x2": Case("rrdb"),
    "rrdbnet_esrgan_repo_x4": Case("rrdb"),
    "rrdb_oldarch_official_x4": Case("rrdb"),
    "rrdb_oldarch_kair_x4": Case("rrdb"),
    "vdsr_twtygqyy": Case("vdsr", hints={"scale": 1}),
    "drrn_yjn870_B1U4": Case("drrn", hints={"units": 4, "scale": 1}),
    "san_official_x4": Case("san", 255),
    "mdsr_torch_x2x3x4": Case("mdsr", 255),
    "rcan_basicsr_x4": Case("rcan"),
    "rdn_torch_x2": Case("rdn"),
    "rdn_torch_x4": Case("rdn"),
    "wdsr_a_x4": Case("wdsr", 255),
    "wdsr_b_x2": Case("wdsr", 255),
    "srresnet_twtygqyy_x4": Case("srresnet"),
    "msrresnet_basicsr_x2": Case("msrresnet"),
    "msrresnet_basicsr_x4": Case("msrresnet"),
    "span_x4": Case("span", tolerance=5e-5),  # its pixels reach 78
    "swinir_classical_x4_24x24": Case("swinir"),
    "swinir_light_x2_19x27": Case("swinir"),
    "swinir_real_x4_3conv_24x24": Case("swinir"),
    "edsr_torch_x2": Case("edsr", 255, hints={"residual_scale": 0.1}),
    "edsr_torch_x4": Case("edsr", 255, hints={"residual_scale": 0.1}),
    "edsr_basicsr_x2": Case("edsr", hints={"residual_scale": 0.1}),
    "edsr_basicsr_x4": Case("edsr", hints={"residual_scale": 0.1}),
}


def header(case: Case) -> dict[str, str]:
    return {"architecture": case.id, "config": json.dumps(dict(case.hints))} if case.hints else {}


@pytest.mark.shared
@pytest.mark.parametrize("name", CASES)
def test_equals_the_official_implementation(name: str, shared: Path):
    case = CASES[name]
    with safe_open(shared / "data" / "golden" / f"{name}.safetensors", "pt") as file:
        given = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no iterator
    state = {key.removeprefix("sd."): v for key, v in given.items() if key.startswith("sd.")}

    network, spec = build(state, header(case))
    with torch.inference_mode():
        output = network(given["input"] / case.white)

    assert detect(state)[0].id == case.id
    assert output.shape[2] == given["input"].shape[2] * spec.scale
    torch.testing.assert_close(output, given["output"] / case.white, rtol=0, atol=case.tolerance)
