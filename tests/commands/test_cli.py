from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from deepfake.commands import doctor
from deepfake.commands.cli import build_parser, main
from deepfake.schema import REPORT_SCHEMA
from deepfake.settings import shipped_models_folder
from tests.faulty import BUG_PIXELS, Faulty
from tests.media_files import image_bytes, scene, speech, wav_bytes


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(image_bytes(scene(200, 120)))
    return path


def test_report_for_people(
    picture: Path, known_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["detect", str(picture), "--models", str(known_models)]) == 0
    text = capsys.readouterr().out
    for words in ("verdict", "P(synthetic)", "evidence", "provenance", "image-1", "200×120"):
        assert words in text


def test_json_lines_for_machines(
    picture: Path, tmp_path: Path, known_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = tmp_path / "speech.wav"
    sound.write_bytes(wav_bytes(speech(2.0)))
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"")
    status = main(
        ["detect", "--json", "--models", str(known_models), str(picture), str(bad), str(sound)]
    )
    captured = capsys.readouterr()
    first, second, third = (json.loads(line) for line in captured.out.splitlines())
    assert status == 1
    jsonschema.validate(first, REPORT_SCHEMA)
    jsonschema.validate(third, REPORT_SCHEMA)
    assert second["path"] == str(bad)
    assert second["error"]["code"]
    assert "bad.jpg" in captured.err


@pytest.mark.parametrize("kind", ["image", "audio"])
def test_heatmap_is_written_as_png(
    picture: Path, tmp_path: Path, known_models: Path, kind: str
) -> None:
    sound, output = tmp_path / "speech.wav", tmp_path / "where.png"
    sound.write_bytes(wav_bytes(speech(2.0)))
    path = picture if kind == "image" else sound
    arguments = ["detect", str(path), "--models", str(known_models)]
    assert main([*arguments, "--save-heatmap", str(output)]) == 0
    assert output.read_bytes().startswith(b"\x89PNG")


def test_each_of_several_files_has_its_own_heat_map(
    picture: Path, tmp_path: Path, known_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound, output = tmp_path / "speech.wav", tmp_path / "where.png"
    sound.write_bytes(wav_bytes(speech(2.0)))
    (tmp_path / "where-2.png").mkdir()
    arguments = ["detect", "--models", str(known_models), "--save-heatmap", str(output)]
    assert main([*arguments, str(picture), str(picture), str(sound)]) == 1
    for number in (1, 3):
        assert (tmp_path / f"where-{number}.png").read_bytes().startswith(b"\x89PNG")
    assert not output.exists()
    captured = capsys.readouterr()
    assert captured.out.count("verdict") == 3
    assert captured.err.count("cannot be written") == 1
    assert "photo.png" in captured.err
    assert "where-2.png" in captured.err


def test_a_heat_map_never_takes_the_place_of_evidence(
    picture: Path, known_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    second = picture.with_name("photo-2.png")
    second.write_bytes(picture.read_bytes())
    arguments = ["detect", "--models", str(known_models), "--save-heatmap", str(picture)]
    assert main([*arguments, str(picture)]) == 2
    assert main([*arguments, str(second), str(second)]) == 2
    assert main([*arguments[:-1], str(picture.parent), str(picture)]) == 2
    assert capsys.readouterr().err.count("heat map") == 3
    assert picture.read_bytes() == second.read_bytes()


def test_a_bug_in_one_file_is_told_and_the_others_go_on(
    picture: Path,
    tmp_path: Path,
    known_models: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("deepfake.detector.shipped_analyzers", lambda settings: (Faulty(),))
    bad = tmp_path / "bug.png"
    bad.write_bytes(image_bytes(scene(BUG_PIXELS, 8)))
    assert main(["detect", "--json", "--models", str(known_models), str(bad), str(picture)]) == 1
    captured = capsys.readouterr()
    first, second = (json.loads(line) for line in captured.out.splitlines())
    assert first["error"]["code"] == "internal"
    assert "report it" in captured.err
    assert second["path"] == str(picture)


def test_hostile_name_cannot_reach_the_terminal(
    tmp_path: Path, known_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = tmp_path / "\x1b[2J\x1b]0;owned\x07 \u202egnp.exe [red]x[bold]\n.png"
    name.write_bytes(image_bytes(scene()))
    broken = tmp_path / "\x1b[31mbroken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    main(["detect", str(name), str(broken), "--models", str(known_models)])
    captured = capsys.readouterr()
    for text in (captured.out, captured.err):
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "\u202e" not in text
    assert "[red]x[bold]" in captured.out


def test_not_utf8_name_and_leading_dash(tmp_path: Path, known_models: Path) -> None:
    for name in (b"\xff\xfe.png", b"-rf.png"):
        with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:  # noqa: PTH123 - bytes name
            file.write(image_bytes(scene()))
        seen = subprocess.run(
            [
                sys.executable,
                "-m",
                "deepfake",
                "detect",
                "--models",
                str(known_models),
                b"--",
                name,
            ],
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        assert seen.returncode == 0, seen.stderr
        assert b"P(synthetic)" in seen.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prior", "2"], "prior"),
        (["--device", "cuda", "--backend", "onnxruntime"], "device"),
        (["--trust-anchors", "/nowhere.pem"], "trust anchors"),
    ],
)
def test_wrong_usage_is_status_2(
    picture: Path,
    known_models: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    status = main(["detect", str(picture), "--models", str(known_models), *arguments])
    assert status == 2
    assert message in capsys.readouterr().err


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("detect", "scan", "serve", "models", "doctor"):
        with pytest.raises(SystemExit) as stop:
            build_parser().parse_args([command, "--help"])
        assert stop.value.code == 0
    text = capsys.readouterr().out
    flags = ("--heatmap", "--no-stability", "--prior", "--max-frames-per-minute", "--backend")
    for flag in (*flags, "--csv"):
        assert flag in text
    words = " ".join(text.split())
    assert words.count("--face-model ONNX a YuNet ONNX file of your own that finds faces") == 5


def test_scan_prints_a_summary(
    picture: Path, tmp_path: Path, known_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, table = tmp_path / "r.jsonl", tmp_path / "r.csv"
    arguments = ["scan", str(picture.parent / "photo.png"), "--models", str(known_models)]
    arguments += ["--output", str(output), "--csv", str(table), "--workers", "1"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "examined now" in text
    assert table.read_text().startswith('"path","kind","verdict"')
    assert main(arguments) == 0
    assert "from the journal" in capsys.readouterr().out


def test_models_commands(known_models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = ["--models", str(known_models)]
    assert main(["models", "list", *models]) == 0
    assert main(["models", "verify", *models]) == 0
    assert main(["models", "show", "image-1", *models]) == 0
    text = capsys.readouterr().out
    assert "every file whole" in text
    assert "# image-1" in text
    assert main(["models", "show", "image-99", *models]) == 2


def test_doctor_says_what_runs_where(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two bundles; that every one runs on every backend is shown by ``test_engine``."""
    every = doctor.read_bundles(shipped_models_folder())
    few = {slot: every[slot] for slot in ("image", "audio")}
    monkeypatch.setattr(doctor, "read_bundles", lambda folder: few)
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert f"bundles: {len(every)} active, {len(every)} of them shipped\n" in text
    for words in ("image-3", "audio-3", "openvino", "onnxruntime", "match within", "auto chooses"):
        assert words in text
