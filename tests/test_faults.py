from __future__ import annotations

import logging

import pytest

from deepfake.errors import InternalError, MediaError
from deepfake.faults import MOST_LINES, contain_faults

HOSTILE = "\x1b[2J\nERROR forged entry\u2028\u202e \udcff"


def raise_it(error: Exception) -> None:
    raise error


def test_a_bug_becomes_the_error_of_its_file(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InternalError, match="report it") as caught, contain_faults("a/b.wav"):
        raise_it(ZeroDivisionError("no number"))
    assert caught.value.code == "internal"
    assert "file a/b.wav: met a bug" in str(caught.value)
    assert "ZeroDivisionError: no number" in str(caught.value)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("deepfake", logging.ERROR)
    assert "Traceback" in record.getMessage()
    assert "in raise_it" in record.getMessage()


def test_one_id_leads_from_the_error_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    ids = []
    for record in range(2):
        with pytest.raises(InternalError) as caught, contain_faults("a"):
            raise_it(ZeroDivisionError("no number"))
        ids.append(caught.value.fault_id)
        assert str(caught.value).endswith(f"under the id {ids[-1]}")
        head, *trace = caplog.records[record].getMessage().split("\n")
        assert head.endswith(f"met a bug, id {ids[-1]}")
        assert all(line.startswith(f"{ids[-1]} | ") for line in trace)
    assert ids[0] != ids[1]


def test_a_long_traceback_is_cut_to_its_end(caplog: pytest.LogCaptureFixture) -> None:
    def one(depth: int) -> None:
        other(depth - 1)

    def other(depth: int) -> None:
        if depth <= 0:
            raise_it(ZeroDivisionError("no number"))
        one(depth - 1)

    with pytest.raises(InternalError), contain_faults("a"):
        one(300)
    lines = caplog.records[0].getMessage().split("\n")
    assert len(lines) == 1 + MOST_LINES
    assert lines[-1].endswith("ZeroDivisionError: no number")


def test_a_deliberate_error_is_left_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    error = MediaError("file a: broken", code="broken")
    with pytest.raises(MediaError) as caught, contain_faults("a"):
        raise_it(error)
    assert caught.value is error
    assert caplog.records == []


def test_what_a_file_says_cannot_forge_an_entry(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InternalError) as caught, contain_faults(HOSTILE):
        raise_it(ValueError(HOSTILE))
    assert str(caught.value).isprintable()
    first, *trace = caplog.records[0].getMessage().split("\n")
    assert "ERROR forged entry" in first, "escaped, on the line that names the file"
    assert len(trace) > 3
    for line in (first, *trace):
        assert line.isprintable()
    assert all(line.startswith(f"{caught.value.fault_id} | ") for line in trace)
