from __future__ import annotations

from deepfake_app.stops import Stops


def test_a_stop_reaches_all_work_of_a_session_and_no_other() -> None:
    stops = Stops()
    with stops.working("a") as one, stops.working("a") as two, stops.working("b") as other:
        stops.stop("a")
        stops.stop("nobody")
        assert one.is_set()
        assert two.is_set()
        assert not other.is_set()


def test_later_work_is_not_stopped_by_an_earlier_stop() -> None:
    stops = Stops()
    with stops.working("a") as one:
        stops.stop("a")
    assert one.is_set()
    stops.stop("a")
    with stops.working("a") as again:
        assert not again.is_set()
