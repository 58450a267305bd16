from __future__ import annotations

import sys
from pathlib import Path

import pytest
from deepfake_training.evaluation.peers import Peer, ask_peer, parse_peer

from deepfake.errors import DeepfakeError, SettingsError


def ask(command: str, path: Path, *, seconds: float = 20.0) -> float:
    return ask_peer(parse_peer(f"other={command}", seconds=seconds), path)


def run(code: str) -> str:
    return f"{sys.executable} -c {code!r}"


def test_a_command_prints_its_score_last(tmp_path: Path) -> None:
    hostile = tmp_path / "$(touch owned); 'a b'.png"
    hostile.write_bytes(b"abc")
    code = "import sys; data = open(sys.argv[1]).read(); print(7, len(data), 'score', -2.5e-1)"
    assert ask(run(code), hostile) == -0.25
    both = "import sys; print(int(sys.argv[1] == sys.argv[2][5:]))"
    assert ask(run(both) + " {} --at={}", hostile) == 1
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("print('none')", "printed no number"),
        ("import sys; print('bad file', file=sys.stderr); sys.exit(3)", r"ended with 3 \(bad file"),
        ("print('1' * 400)", "inf, which is no score"),
    ],
)
def test_what_goes_wrong_is_told(tmp_path: Path, code: str, why: str) -> None:
    with pytest.raises(DeepfakeError, match=why):
        ask(run(code), tmp_path)


def test_a_command_has_its_time(tmp_path: Path) -> None:
    with pytest.raises(DeepfakeError, match=r"more than 0\.2 seconds"):
        ask(run("import time; time.sleep(9)"), tmp_path, seconds=0.2)


@pytest.mark.parametrize("text", ["command", "=x", "a b=x", "name=", "name='x", "n=python:none:x"])
def test_what_is_no_peer_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        parse_peer(text, seconds=1)


def test_a_missing_command_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be run"):
        ask("/no/such/program", tmp_path)


def test_a_python_function_is_called_with_the_path(tmp_path: Path) -> None:
    assert ask("python:os.path:getsize", tmp_path) == tmp_path.stat().st_size

    def fail(path: Path) -> float:
        raise RuntimeError("no weights")

    with pytest.raises(DeepfakeError, match=r"RuntimeError: no weights"):
        ask_peer(Peer("theirs", "fail", fail), tmp_path)
