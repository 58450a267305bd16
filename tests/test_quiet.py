"""Nothing phones home: what the commands ask of the network, and where they write.

ONNX Runtime's client looks its host up nine seconds after it was loaded, so that every command is
kept alive with its runtimes loaded for longer than that, all of them at once.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from deepfake import Settings
from deepfake.client import Client
from deepfake.engine.engine import Engine
from deepfake.export.bundles import ExportOptions, export_bundle
from deepfake.quiet import SWITCHES
from examples import samples
from tests import evidence_files, observation
from tests.app.media import DEFAULTS
from tests.media_files import image_bytes, scene, speech, video_bytes, wav_bytes
from tests.observation import PROJECT, Observed, Unobservable

pytest.importorskip("httpx")

pytestmark = pytest.mark.filterwarnings("default:network unobserved")

IDLE_SECONDS = 10.5
READY_SECONDS = 100.0
OWN_TEMPORARY = re.compile(r"deepfake-|[a-z0-9_]{8}$")
"""Names of what our code makes in the temporary folder, and of the file with which Python's
``tempfile`` tries whether it can be written.
"""
DEVICES = ("/dev", "/proc")
ONCE = "gradio/hash_seed.txt"
"""What gradio writes into its own folder on its very first start: a random number."""
KEPT = {"serve": ".local/share/deepfake/service"}
"""Where in the home of the user a command keeps something, as it says."""

RUN_AND_IDLE = """
import json, runpy, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
statuses = []
for target, *arguments in json.loads(sys.argv[1]):
    if target == "deepfake":
        from deepfake.commands.cli import main
        statuses.append(main(arguments))
    else:
        sys.argv = [target, *arguments]
        try:
            runpy.run_path(target, run_name="__main__")
        except SystemExit as end:
            statuses.append(end.code)
print("ready", flush=True)
signal.sigwait({signal.SIGTERM})
sys.exit(max(statuses))
"""
LOUD = """
import os, pathlib, socket, subprocess, sys, tempfile
try:
    socket.getaddrinfo("telemetry.example.invalid", 443)
except OSError:
    pass
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
    try:
        channel.sendto(b"hello", ("203.0.113.9", 9))
    except OSError:
        pass
pathlib.Path.home().joinpath(".identifier").write_text("7")
os.chdir("/")
child = "import pathlib, sys; pathlib.Path(sys.argv[1]).mkdir()"
place = os.path.relpath(os.path.join(tempfile.gettempdir(), ".session"))
subprocess.run([sys.executable, "-c", child, place], check=True)
"""


def observe(command: list[str], folder: Path) -> Observed:
    """The command under observation, or, with a warning, only its folders."""
    try:
        return Observed(command, folder)
    except Unobservable as error:
        warnings.warn(f"network unobserved: only folders are looked at ({error})", stacklevel=2)
        return Observed(command, folder, watched=False)


def run_and_idle(folder: Path, *commands: list[str | Path]) -> Observed:
    lines = [[str(word) for word in command] for command in commands]
    return observe([sys.executable, "-c", RUN_AND_IDLE, json.dumps(lines)], folder)


def await_text(observed: Observed, pattern: str) -> str:
    until = time.monotonic() + READY_SECONDS
    while not (found := re.search(pattern, observed.text())):
        assert observed.process.poll() is None, observed.text()
        assert time.monotonic() < until, observed.text()
        time.sleep(0.1)
    return found[0]


def examine_on(address: str, content: bytes) -> None:
    """Upload a picture to the page and have it examined."""
    import httpx

    sent = httpx.post(
        f"{address}gradio_api/upload", files={"files": ("a.png", content)}, timeout=60
    )
    file = {"path": sent.json()[0], "orig_name": "a.png", "meta": {"_type": "gradio.FileData"}}
    url = f"{address}gradio_api/call/detect"
    event = httpx.post(url, json={"data": [file, *DEFAULTS]}, timeout=60).json()
    answer = httpx.get(f"{url}/{event['event_id']}", timeout=60).text
    assert "event: complete" in answer


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    (folder / "photo.png").write_bytes(image_bytes(scene(200, 150)))
    (folder / "speech.wav").write_bytes(wav_bytes(speech(2.0)))
    (folder / "clip.mp4").write_bytes(video_bytes([scene(seed=seed) for seed in range(12)]))
    linked = samples.sign(
        evidence_files.image("JPEG"),
        samples.actions(),
        samples.make_signer(),
        remote="http://manifests.example.invalid/m.c2pa",
    )
    (folder / "linked.jpg").write_bytes(linked)
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, known_models: Path) -> Path:
    engine = Engine(Settings(models_folder=known_models, threads=1, backend="onnxruntime"))
    made = export_bundle(
        engine.bundle("image"),
        engine=engine,
        folder=tmp_path_factory.mktemp("edge"),
        options=ExportOptions(),
    )
    engine.close()
    return made.files[0]


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, known_models: Path, media: Path, exported: Path
) -> Iterator[dict[str, Observed]]:
    """Every command under observation, when it has done its work."""
    root = tmp_path_factory.mktemp("observed")
    models: list[str | Path] = ["--models", known_models, "--threads", "1"]
    deepfake = [sys.executable, "-m", "deepfake"]
    export: list[str | Path] = ["deepfake", "models", "export", "image-1", "--output", "."]
    files = sorted(media.iterdir())
    running = {
        "serve": observe([*deepfake, "serve", "--port", "0", *map(str, models)], root / "serve"),
        "scan": observe(
            [
                *(*deepfake, "scan", str(media), "--output", "r.jsonl", "--workers", "2"),
                *("--watch", "1", "--html", "r.html", "--csv", "r.csv", *map(str, models)),
            ],
            root / "scan",
        ),
        "detect": run_and_idle(root / "detect", ["deepfake", "detect", *models, *files]),
        "export": run_and_idle(
            root / "export",
            *([*export, "--format", name, *models] for name in ("onnx", "openvino")),
            [*export, "--format", "tflite-ready", *models],
        ),
        "edge": run_and_idle(
            root / "edge", [PROJECT / "examples" / "edge.py", exported, media / "photo.png"]
        ),
    }
    try:
        for name in ("detect", "export", "edge"):
            await_text(running[name], r"(?m)^ready$")
        served = await_text(running["serve"], r"http://\S+/")
        examine_on(served, image_bytes(scene()))
        ask(served, image_bytes(scene()))
        await_lines(running["scan"].work / "r.jsonl", len(files))
        yield running
    finally:
        for observed in running.values():
            observed.process.kill()


@pytest.fixture(scope="module")
def idle_until(running: dict[str, Observed]) -> float:
    """When every command has been idle for long enough. Tests that ask for this moment pass the
    time until then.
    """
    return time.monotonic() + IDLE_SECONDS


@pytest.fixture(scope="module")
def commands(running: dict[str, Observed], idle_until: float) -> dict[str, Observed]:
    """Every command, run to its end."""
    time.sleep(max(0.0, idle_until - time.monotonic()))
    for name, observed in running.items():
        observed.process.send_signal(signal.SIGINT if name == "scan" else signal.SIGTERM)
    for observed in running.values():
        status = observed.wait(20)
        assert status == 0, observed.text() + failures(observed.work)
    return running


def failures(folder: Path) -> str:
    """The lines of results in a folder that tell of a file which could not be examined."""
    lines = [line for file in folder.glob("*.jsonl") for line in file.read_text().splitlines()]
    return "\n".join(line[:2000] for line in lines if '"error"' in line)


def ask(address: str, content: bytes) -> None:
    """Have a picture examined over the interface, at once and as a job."""
    with Client(address) as client:
        assert client.detect(content).report.verdict
        assert client.wait(client.submit(content).id).report.verdict


def await_lines(journal: Path, count: int) -> None:
    until = time.monotonic() + READY_SECONDS
    while not journal.exists() or journal.read_bytes().count(b"\n") < count:
        assert time.monotonic() < until
        time.sleep(0.1)


def strangers(observed: Observed, *, kept: str = "") -> list[str]:
    """What was written outside of the work folder and is not ours, and what was left behind, but
    for the folder ``kept`` in the home of the user.
    """
    place = observed.home / kept if kept else observed.work

    def is_kept(path: Path) -> bool:
        return path.is_relative_to(place) or place.is_relative_to(path)

    found = [path for path in observed.written if not _is_own(path, observed)]
    found += [*observed.home.rglob("*"), *observed.temporary.rglob("*")]
    return [str(path) for path in found if not is_kept(path)]


def _is_own(path: Path, observed: Observed) -> bool:
    if path.is_relative_to(observed.temporary):
        names = path.relative_to(observed.temporary).parts
        return not names or OWN_TEMPORARY.match(names[0]) is not None
    text = str(path)
    return path.is_relative_to(observed.work) or text.startswith(DEVICES) or text.endswith(ONCE)


@pytest.mark.usefixtures("idle_until")
def test_a_loud_process_is_caught(tmp_path: Path) -> None:
    """With its child, whatever its working folder; otherwise the tests below would be worth
    nothing.
    """
    observed = observe([sys.executable, "-c", LOUD], tmp_path)
    assert observed.wait(30) == 0, observed.text()
    names = {Path(path).name for path in strangers(observed)}
    assert names == {".identifier", ".session"}
    if observed.watched:
        assert any("port 53 (a look-up)" in line for line in observed.asked)
        assert any("sendto 203.0.113.9 port 9" in line for line in observed.asked)
        written = [path for path in observed.written if path.name[0] == "."]
        assert written == [observed.home / ".identifier", observed.temporary / ".session"]


def test_a_system_where_nothing_can_be_observed_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observation, "PLATFORMS", {})
    with pytest.warns(UserWarning, match="network unobserved"):
        observed = observe([sys.executable, "-c", LOUD], tmp_path)
    assert observed.wait(30) == 0, observed.text()
    assert {Path(path).name for path in strangers(observed)} == {".identifier", ".session"}


@pytest.mark.usefixtures("idle_until")
@pytest.mark.parametrize("package", ["deepfake", "deepfake_app", "deepfake_training", "benchmarks"])
def test_the_switches_are_set_before_a_runtime_is_imported(package: str) -> None:
    code = f"""
import json, os, sys
import {package}
assert not set(sys.modules) & {{"numpy", "onnxruntime", "openvino", "torch", "gradio", "ray"}}
print(json.dumps(dict(os.environ)))
"""
    environment = dict.fromkeys(SWITCHES, "as the user has it") | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout).items() >= SWITCHES.items()


@pytest.mark.parametrize("name", ["detect", "scan", "serve", "export", "edge"])
def test_nothing_is_asked_and_nothing_is_written_elsewhere(
    commands: dict[str, Observed], name: str
) -> None:
    assert commands[name].asked == []
    assert strangers(commands[name], kept=KEPT.get(name, "")) == []
