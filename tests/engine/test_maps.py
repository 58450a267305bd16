from __future__ import annotations

from deepfake.engine.maps import map_places


def test_map_holds_one_place_for_every_cell() -> None:
    centres, sides = map_places(64, 96)
    assert len(centres) == len(sides) == 8 * 12 + 4 * 6 + 2 * 3
    assert centres[0].tolist() == [4, 4]
    assert centres[1].tolist() == [12, 4]
    assert centres[-1].tolist() == [80, 48]
    assert sides.tolist().count(32.0) == 6
