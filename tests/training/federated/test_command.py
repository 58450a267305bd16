"""``deepfake train --federated`` as three processes over TLS on loopback: one head, two bundles."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from deepfake_training.own.network import open_network
from safetensors.numpy import load

from deepfake import networks
from deepfake.bundle import Bundle
from deepfake.commands.cli import main
from tests.training.own_media import create_tiny, fill
from tests.training.test_own import shipped, start_with

__all__ = ["shipped"]
PROGRAM = """
import sys
from deepfake import networks
from deepfake.commands.cli import main
from tests.training.own_media import create_tiny
networks.create = create_tiny
sys.exit(main(sys.argv[1:]))
"""


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, *arguments],
        cwd=Path(__file__).parents[3],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return f"127.0.0.1:{found.getsockname()[1]}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_two_sites_write_bundles_with_one_head(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "create", create_tiny)
    start_with(shipped, "image")
    address, keys = free_address(), tmp_path / "keys"
    line = ["train", "--federated", "certificates", "--certificates", str(keys)]
    assert main([*line, "--address", address, "--sites", "north", "south"]) == 0
    shared = ["--slot", "image", "--models", str(shipped), "--address", address]
    shared += ["--start", "fresh"]
    server = start(
        *("train", "--federated", "server", *shared, "--certificates", str(keys)),
        *("--output", str(tmp_path / "hub"), "--sites", "north", "south", "--rounds", "5"),
    )
    clients = {}
    for name in ("north", "south"):
        genuine, synthetic = fill(tmp_path / name / "media", "image", files=12)
        own = tmp_path / name / "keys"
        own.mkdir()
        for file in ("authority.pem", f"{name}.pem"):
            shutil.copy(keys / file, own / file)
        clients[name] = start(
            *("train", "--federated", "client", "--name", name, *shared, "--threads", "1"),
            *("--genuine", str(genuine), "--synthetic", str(synthetic)),
            *("--certificates", str(own), "--output", str(tmp_path / name / "ours-1")),
            *("--suspicious", "weigh"),
        )
    processes = {"server": server, **clients}
    try:
        said = {name: one.communicate(timeout=500)[0] for name, one in processes.items()}
    finally:
        for one in processes.values():
            one.kill()
            one.wait(30)
    assert {name: one.returncode for name, one in processes.items()} == dict.fromkeys(said, 0), said
    assert "round 5 of 5 ended" in said["server"]
    bundles = {name: Bundle.read(tmp_path / name / "ours-1") for name in clients}
    heads = {name: open_network(one).head() for name, one in bundles.items()}
    assert heads["north"].weights == pytest.approx(heads["south"].weights)
    common = load((tmp_path / "hub" / "head.safetensors").read_bytes())["weights"][:-1]
    assert heads["north"].weights == pytest.approx(common, rel=1e-2, abs=1e-3)
    assert np.abs(common).max() > 0
    for name, bundle in bundles.items():
        bundle.verify()
        facts = json.loads((bundle.folder / "bundle.json").read_text())["provenance"]
        assert facts["federated"]["site"] == name
        assert facts["suspicious"].startswith("weigh, ")
        assert (tmp_path / name / "ours-1.work" / "audit" / "audit.html").exists()
        assert "fitted together with other sites" in bundle.card()
        (row, *_) = [row for row in bundle.metrics["views"] if row["view"] == "clean"]
        assert row["mean_auc"] > 0.9


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--federated", "client"], "option --certificates: is missing"),
        (["--federated", "client", "--certificates", "x"], "option --name: is missing"),
        (["--federated", "server", "--certificates", "x"], "are needed by a server"),
        (
            ["--federated", "certificates", "--certificates", "x", "--address", "nowhere"],
            "is no host and port",
        ),
        (["--slot", "image"], "options --genuine, --synthetic, --output: missing"),
    ],
)
def test_what_is_missing_is_named(
    more: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *more]) == 2
    assert words in capsys.readouterr().err
