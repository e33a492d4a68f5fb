"""What the official implementations compute, by the weights they were given (fp32, 1e-5)."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from vsr.models import build, detect

CASES = {
    "srvgg_x1_prelu": "compact",
    "srvgg_x2_prelu": "compact",
    "srvgg_x2_relu": "compact",
    "srvgg_x4_prelu": "compact",
    "rrdbnet_x4": "rrdb",
    "rrdbnet_x2": "rrdb",
    "rrdbnet_esrgan_repo_x4": "rrdb",
    "rrdb_oldarch_official_x4": "rrdb",
    "rrdb_oldarch_kair_x4": "rrdb",
}


@pytest.mark.shared
@pytest.mark.parametrize("case", CASES)
def test_equals_the_official_implementation(case: str, shared: Path):
    with safe_open(shared / "data" / "golden" / f"{case}.safetensors", "pt") as file:
        given = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no iterator
    state = {key.removeprefix("sd."): v for key, v in given.items() if key.startswith("sd.")}

    network, spec = build(state)
    with torch.inference_mode():
        output = network(given["input"])

    assert detect(state)[0].id == CASES[case]
    assert output.shape[2] == given["input"].shape[2] * spec.scale
    torch.testing.assert_close(output, given["output"], rtol=0, atol=1e-5)
