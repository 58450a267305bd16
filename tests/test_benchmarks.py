"""The benchmarks run with tiny sizes, print their tables, and measure what they say."""

from __future__ import annotations

import io
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import (
    audio,
    borders,
    cuda,
    drift,
    hostile,
    manipulation,
    peers,
    pipeline,
    scaling,
    service,
    signatures,
    startup,
    sweeps,
    tiers,
    timing,
)
from benchmarks.media import (
    jpeg_bytes,
    make_clip,
    make_pictures,
    make_speech,
    photograph,
    read_media,
    with_comment,
)
from benchmarks.processes import Run, run_watched
from benchmarks.rawnet import PARAMETERS_OF_AASIST, count_cost
from benchmarks.timing import stopwatch, take_turns, time_steps
from deepfake import Detector, Kind, Settings
from tests.reports import make_report


@pytest.fixture(autouse=True)
def _briefly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each step once, and torch in one thread, which a loaded machine hampers least."""
    monkeypatch.setattr(timing, "WARM_ROUNDS", 0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def _known_bundles(monkeypatch: pytest.MonkeyPatch, known_models: Path) -> None:
    """Bundles that cost next to nothing in place of the shipped ones, in processes too."""
    for program in (peers, pipeline, service):
        monkeypatch.setattr(program, "Settings", partial(Settings, models_folder=known_models))
    place = ["--models", str(known_models)]
    serving = service.serving
    monkeypatch.setattr(service, "serving", lambda *given: serving(*given, *place))
    monkeypatch.setattr(
        scaling, "run_watched", lambda command, **given: run_watched([*command, *place], **given)
    )


def tables(text: str) -> list[list[list[str]]]:
    """The tables of an output, as rows of cells: each stands between a title and a blank line."""
    found = []
    for part in text.split("\n\n")[1:]:
        lines = part.strip("\n").splitlines()[1:]
        if lines:
            found.append([line.split("  ") for line in lines])
            found[-1] = [[cell.strip() for cell in row if cell.strip()] for row in found[-1]]
    return found


def test_steps_are_taken_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "WARM_ROUNDS", 1)
    order: list[str] = []
    taken = take_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=2)
    assert order == ["a", "b"] * 3
    assert {name: len(results) for name, results in taken.items()} == {"a": 2, "b": 2}


def test_times_are_medians_without_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "WARM_ROUNDS", 1)
    clock = iter([0.0, 100.0, 0.0, 1.0, 0.0, 9.0, 0.0, 2.0])
    processor = iter([0.0, 100.0, 5.0, 5.5, 0.0, 4.0, 0.0, 3.0])
    monkeypatch.setattr("benchmarks.timing.time.perf_counter", lambda: next(clock))
    monkeypatch.setattr(timing, "count_processor_seconds", lambda: next(processor))
    assert time_steps({"step": lambda: None}, repeats=3) == {"step": (2.0, 3.0)}


def test_processor_time_of_children_is_counted() -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    taken = stopwatch(lambda: subprocess.run([sys.executable, "-c", busy], check=True))()
    assert 0.25 < taken.processor_seconds < 5
    assert taken.seconds > 0.25


def test_pictures_weigh_what_a_camera_s_do() -> None:
    for width, height in ((480, 320), (1536, 1024)):
        share = len(jpeg_bytes(photograph(width, height, seed=3))) / (width * height)
        assert 0.25 < share < 0.5


def test_a_comment_changes_the_file_and_not_the_picture() -> None:
    plain = jpeg_bytes(photograph(64, 48, seed=1))
    other = with_comment(plain, "picture 7")
    assert plain != other
    with Image.open(io.BytesIO(plain)) as before, Image.open(io.BytesIO(other)) as after:
        assert after.info["comment"] == b"picture 7"
        assert np.array_equal(np.asarray(before), np.asarray(after))


def test_media_of_every_kind_are_made_and_found(tmp_path: Path) -> None:
    pictures = make_pictures(tmp_path, megapixels=0.02, files=6)
    assert len({path.read_bytes() for path in pictures.paths}) == 6
    assert len({path.stat().st_size for path in pictures.paths}) == 6
    clip = make_clip(tmp_path / "clip.mp4", width=160, height=96, seconds=1.0)
    assert clip.seconds == pytest.approx(1.0, abs=0.2)
    make_speech(tmp_path / "speech.wav", seconds=2)
    (tmp_path / "notes.txt").write_text("no media")
    found = {media.kind: media for media in read_media(tmp_path)}
    assert set(found) == {Kind.IMAGE, Kind.VIDEO, Kind.AUDIO}
    assert len(found[Kind.IMAGE].paths) == 6
    assert found[Kind.AUDIO].seconds == pytest.approx(2.0)


def test_memory_of_children_is_counted() -> None:
    child = "import time; block = bytearray(b'x') * 60_000_000; time.sleep(0.5)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    run = run_watched([sys.executable, "-c", parent])
    assert run.peak_bytes > 60e6 > run.own_peak_bytes > 1e6
    assert run.seconds > 0.5


def test_a_command_that_fails_is_told() -> None:
    with pytest.raises(RuntimeError, match="status 3: no luck"):
        run_watched(
            [sys.executable, "-c", "import sys; print('no luck', file=sys.stderr); exit(3)"]
        )


def test_the_audio_peer_costs_what_aasist_does() -> None:
    cost = count_cost()
    assert cost.parameters == pytest.approx(PARAMETERS_OF_AASIST, rel=0.03)
    assert 9.3e9 < cost.macs < 9.8e9


@pytest.mark.usefixtures("_known_bundles")
def test_pipeline(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--megapixels", "0.02", "--files", "2", "--sound-seconds", "3"]
    sizes += ["--lines", "96", "--clip-seconds", "1"]
    assert pipeline.main(["--repeats", "1", *sizes]) == 0
    pictures, steps, sound, _, clip, _ = tables(capsys.readouterr().out)
    names = [row[0] for row in pictures[1:]]
    assert names[0] == "decode, 1 process"
    assert names[2:5] == ["decode, confined", "decode and preprocess", "report"]
    assert pictures[1][-1] == "1.00"
    assert {"open", "image", "face"} <= {row[0] for row in steps[1:]}
    assert [row[0] for row in sound[1:]] == ["decode", "decode, confined", "report"]
    assert [row[0] for row in clip[1:]] == ["decode", "report"]


def test_shares_of_steps_are_medians() -> None:
    reports = [make_report(), make_report()]
    for report, seconds in zip(reports, (0.1, 0.3), strict=True):
        report.seconds_by_step.clear()
        report.seconds_by_step.update({"open": seconds, "image": 0.2})
    assert pipeline.tabulate_steps(reports) == [
        ["open", "200.0", "50 %"],
        ["image", "200.0", "50 %"],
    ]


@pytest.mark.usefixtures("_known_bundles")
def test_peers(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--megapixels", "0.02", "--files", "5", "--sound-seconds", "3"]
    sizes += ["--networks", "ResNet-50"]
    assert peers.main(["--repeats", "1", *sizes]) == 0
    pictures, sound = tables(capsys.readouterr().out)
    rows = {row[0]: row[1:] for row in pictures[1:]}
    assert set(rows) >= {"ResNet-50", "ours, warm", "ours, start included"}
    assert rows["ours, warm"][-2] == "1.00"
    assert all(float(row[0]) > 0 for row in rows.values())
    assert sound[1][0].startswith("raw-waveform network, 294 k")
    assert sound[2][0] == "ours"


def test_audio(capsys: pytest.CaptureFixture[str]) -> None:
    assert audio.main(["--seconds", "3", "--repeats", "1"]) == 0
    (table,) = tables(capsys.readouterr().out)
    assert table[1][0] == "voice activity"
    assert table[4][0] == "detect, all evidence"


@pytest.mark.usefixtures("_known_bundles")
def test_sweeps(capsys: pytest.CaptureFixture[str]) -> None:
    batches = ["--bundles", "face-finder", "--backends", "onnxruntime", "--batches", "1", "3"]
    scans = ["--files", "5", "--megapixels", "0.02", "--workers", "1"]
    assert sweeps.main(["--repeats", "1", *batches, *scans]) == 0
    sizes, workers = tables(capsys.readouterr().out)
    assert sizes[0] == ["bundle", "backend", "1", "3", "best", "gain"]
    assert sizes[1][:2] == ["face-finder-1", "onnxruntime"]
    rates = [float(rate) for rate in sizes[1][2:4]]
    assert sizes[1][4] == ("1", "3")[rates.index(max(rates))]
    assert workers[1][0] == "1"
    assert workers[1][2] == "1.00"


def test_startup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tiny,) = make_pictures(tmp_path, megapixels=0.0005, files=1).paths
    assert startup.main(["--repeats", "1", "--imports", "--file", str(tiny)]) == 0
    processes, imports = tables(capsys.readouterr().out)
    rows = {row[0]: float(row[1]) for row in processes[1:]}
    assert rows["first report"] > rows["empty interpreter"] > 0
    assert {"deepfake", "numpy"} <= {row[0] for row in imports[1:]}
    assert imports[-1][0] == "all"


def test_signatures(capsys: pytest.CaptureFixture[str]) -> None:
    assert signatures.main(["--repeats", "1"]) == 0
    (table,) = tables(capsys.readouterr().out)
    rows = {row[0]: float(row[1]) for row in table[1:]}
    parts = ("import", "keys", "verify, without hashing")
    assert sum(rows[part] for part in parts) == pytest.approx(rows["all of these"], abs=0.2)
    assert rows["hashing"] > 0


@pytest.mark.slow
@pytest.mark.usefixtures("_known_bundles")
def test_service(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sqlalchemy")
    monkeypatch.setattr(service, "CLIENTS", (1, 3))
    monkeypatch.setattr(service, "time_entries", partial(service.time_entries, count=20))
    sizes = ["--files", "3", "--memory-requests", "10", "--video-seconds", "5"]
    assert service.main(["--repeats", "1", *sizes]) == 0
    entries, pictures, memory, beside = tables(capsys.readouterr().out)
    p50, p99 = map(float, entries[1])
    assert 0 < p50 <= p99
    assert [row[0] for row in pictures[1:]] == ["1", "3"]
    for row in pictures[1:]:
        rate, p50, p99, refusals, errors, bare, ratio, processor, more = map(float, row[1:])
        assert min(rate, p50, bare, processor, more) > 0
        assert p99 >= p50
        assert refusals == errors == 0
        assert ratio == pytest.approx(bare / rate, rel=0.1)
    assert [row[0] for row in memory[1:]] == [*map(str, range(11))]
    assert all(float(row[1]) > 50 for row in memory[1:])
    assert "done" in beside[-1][0]


def test_an_answer_that_comes_before_the_body_was_sent_is_read_and_heeded() -> None:
    body = bytes(4 * 2**20)  # more than any socket takes unread
    refusal = b"HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 4\r\n"
    answers = iter([refusal + b"Connection: close\r\n\r\nbusy", b""])
    heads = []

    def serve(listener: socket.socket) -> None:
        for answer in answers:
            connection, _ = listener.accept()
            heads.append(connection.recv(100))
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            time.sleep(0.3)  # so that the answer is there before the rest of the body is refused
            connection.close()
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as file:
            while file.readline() != b"\r\n":
                pass
            assert file.read(len(body)) == body
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        with closing(service.Asking(listener.getsockname()[1])) as asking:
            assert asking.send("POST", "/v1/detect", body, expected=200) == b"{}"
            thread.join(30)
    assert (asking.refusals, asking.errors) == (1, 1)
    assert all(head.startswith(b"POST /v1/detect") for head in heads)


def test_import_times_are_summed_by_package() -> None:
    text = "import time: self [us] | cumulative | imported package\n"
    text += "import time:       300 |        300 |     numpy.linalg\n"
    text += "import time:       200 |        500 |   numpy\nimport time:  7 |  507 | cv2\n"
    assert startup.sum_imports(text) == {"numpy": 500, "cv2": 7}


@pytest.mark.usefixtures("_known_bundles")
def test_scaling(capsys: pytest.CaptureFixture[str]) -> None:
    assert scaling.main(["--files", "3", "--megapixels", "0.02", "--workers", "1"]) == 0
    (table,) = tables(capsys.readouterr().out)
    assert table[1][0] == "3"
    assert float(table[1][3]) > 50


def test_scaling_compares_with_the_row_before() -> None:
    runs = {10: [Run(2.0, 100_000_000, 50_000_000, b"")], 20: [Run(4.0, 110_000_000, 0, b"")]}
    rows = scaling.tabulate_runs(runs)
    assert rows[0] == ["10", "2.0", "5.0", "100", "", "50"]
    assert rows[1][4] == "1.10"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_says_that_there_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert cuda.main([]) == 2
    assert "needs an NVIDIA GPU" in capsys.readouterr().err


def test_cuda_benchmark_on_the_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--device", "cpu", "--batches", "2", "4", "--rounds", "1", "--repeats", "1"]
    assert cuda.main(arguments) == 0
    peak, engine, gaps = tables(capsys.readouterr().out)[-3:]
    assert max(float(row[2]) for row in peak[1:]) == 1.0
    assert engine[1][0] == "Backend.run"
    assert all(float(row[2]) <= 0.02 for row in gaps[1:])


def test_borders_count_what_keeps_its_word(known_detector: Detector) -> None:
    dark = (photograph(320, 240, seed=1) // 4).astype(np.uint8)
    trials = borders.examine(known_detector, dark, label="real")
    head, rows = borders.tabulate(trials)
    assert [row[0] for row in rows] == ["alone", *borders.KINDS]
    kept = head.index("no sign kept")
    assert {row[kept] for row in rows} == {"1 of 1"}
    found = [row[head.index("photo found")] for row in rows]
    assert found == ["0"] + ["1"] * len(borders.KINDS)


def test_files_come_in_turn_from_every_source(tmp_path: Path) -> None:
    named = [(source, tmp_path / f"{source}{n}") for source in "ab" for n in range(3)]
    chosen = borders.spread(named, 4)
    assert sorted(path.name[0] for path in chosen) == ["a", "a", "b", "b"]
    assert borders.spread(named, 9) == borders.spread(named[::-1], 9)


def test_costly_files_are_measured_with_budgets_and_without(
    known_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ["--share", "0.001", "--models", str(known_models)]
    hostile.main([*chosen, "--names", hostile.GIF_MANY, "APNG"])
    rows = tables(capsys.readouterr().out)[0]
    assert [row[0] for row in rows[1:]] == [hostile.GIF_MANY, "APNG, 2,000 frames"]
    assert all(float(cell) > 0 for cell in rows[1][2:6])
    assert "only the first" in rows[2][-1]


def test_efforts_are_timed(
    known_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg_bytes(photograph(160, 120, seed=1)))
    place = ["--models", str(known_models), "--workers", "1", "--count", "2"]
    tiers.main([str(tmp_path / "a.jpg"), *place])
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["effort", "files", "files/s"]
    assert row.split()[:2] == ["quick", "2"]
    assert int(row.split()[-1]) > 20


@pytest.mark.slow
def test_drift_is_noticed_in_streams_of_pictures(
    known_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["--models", str(known_models), "--limit", "2", "--save", str(tmp_path / "pools.json")]
    quick = ["--runs", "2", "--days", "1", "--a-day", "200", "--most", "2000"]
    quick += ["--choosing", "60", "--counting", "140"]
    drift.main([*place, *quick])
    first = capsys.readouterr().out
    assert "10 pictures of 5 sources" in first
    rows = {line.split("  ")[0]: line for line in first.splitlines()}
    resizer = next(line for name, line in rows.items() if name.startswith("a broken resizer"))
    assert "2 of 2" in resizer
    assert "2 stationary streams of 1 days with 200 files a day" in first
    drift.main(["--pools", str(tmp_path / "pools.json"), *quick])
    assert capsys.readouterr().out == first


def test_traces_of_attacks_are_counted(
    known_models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for label, level in (("genuine", 20), ("synthetic", 200)):
        for number in range(2):
            folder = tmp_path / label / f"source-{number}"
            folder.mkdir(parents=True)
            pixels = (level + rng.normal(0, 12, (200, 200, 3))).round().clip(0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "0.png")
    line = [str(tmp_path), "--models", str(known_models), "--queries", "2", "--attacked", "1"]
    line += ["--attacks", "square,messenger", "--output", str(tmp_path / "made")]
    manipulation.main(line)
    alarms, costs, attacks = tables("\n\n" + capsys.readouterr().out)
    assert {tuple(row[1:5]) for row in alarms[1:]} <= {("1", "0", "1", "0"), ("2", "0", "2", "0")}
    assert sum(int(row[1]) for row in alarms[1:]) == 4
    assert float(costs[1][2]) > 1
    assert [row[:4] for row in attacks[1:]] == [
        ["square", "1", "0", "0"],
        ["messenger", "1", "0", "0"],
    ]
    assert len(list((tmp_path / "made").rglob("*.png"))) == 2
