"""``deepfake train --federated server``: the terms of a federation, its rounds, and what it leaves:
the common head as safetensors, and a line about every round. The server has no media.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from safetensors.numpy import save

from deepfake.errors import ModelError
from deepfake.files import replaced
from deepfake.settings import Settings
from deepfake.trust.registry import read_bundles
from deepfake.trust.signatures import Trust, require_signed

from ..own.network import measure_golden
from .certificates import SERVER, open_context
from .federation import Federation
from .server import serve
from .terms import Terms

HEAD = "head.safetensors"


def run(
    *,
    slot: str,
    models: Path,
    start: str,
    output: Path,
    sites: Sequence[str],
    least: int,
    rule: str,
    rounds: int,
    steps: int,
    wait_seconds: float,
    host: str,
    port: int,
    certificates: Path,
    ready: Callable[[int], None] = lambda port: None,
) -> Path:
    """Serve all rounds and write the common head to ``output``; see :class:`.Federation`."""
    active = read_bundles(models)
    if slot not in active:
        raise ModelError(f"slot {slot}: no bundle in {models}", hint="leave --models out")
    require_signed(active.values(), Trust.read(Settings(models_folder=models)))
    terms = Terms(
        slot=slot,
        bundle_sha256=active[slot].sha256,
        features=len(measure_golden(active[slot])) - 1,
        start=start,
        rule=rule,
        rounds=rounds,
        steps=steps,
    )
    context = open_context(certificates, SERVER)
    federation = Federation(terms, sites, least=least, wait_seconds=wait_seconds, folder=output)
    print(
        f"waiting for {', '.join(sites)} at {host}:{port} (Ctrl-C stops; the same command goes on)"
    )
    serve(federation, host=host, port=port, context=context, ready=ready)
    assert federation.common is not None
    raw, bias = federation.common.scale.unscale(
        federation.common.head.weights, federation.common.head.bias
    )
    path = output / HEAD
    with replaced(path) as partial:
        partial.write_bytes(save({"weights": raw, "bias": raw[:1] * 0 + bias}))
    print(f"wrote {path}; every site has written a bundle with this head")
    return path
