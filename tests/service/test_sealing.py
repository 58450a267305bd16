"""Sealed streams: what they hold, and every way to change one."""

from __future__ import annotations

import io

import pytest
from deepfake_service import sealing
from deepfake_service.sealing import (
    SEGMENT_BYTES,
    TAG_BYTES,
    Unopened,
    open_stream,
    seal,
    seal_stream,
    unseal,
)

KEY, PLACE = bytes(range(32)), b"kept media 1 rep_0"
HEAD = 1 + 32 + 7


@pytest.mark.parametrize("size", [0, 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 3 * SEGMENT_BYTES])
def test_what_is_sealed_opens(size: int) -> None:
    text = bytes(i % 251 for i in range(size))
    sealed = seal(text, key=KEY, context=PLACE)
    assert unseal(sealed, key=KEY, context=PLACE) == text
    segments = max(1, -(-size // SEGMENT_BYTES))
    assert len(sealed) == HEAD + size + segments * TAG_BYTES
    assert seal(text, key=KEY, context=PLACE) != sealed


def test_no_byte_can_be_changed() -> None:
    sealed = seal(b"a report", key=KEY, context=PLACE)
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(Unopened):
            unseal(bytes(changed), key=KEY, context=PLACE)


@pytest.mark.parametrize(("key", "place"), [(bytes(32), PLACE), (KEY, b"kept media 2 rep_0")])
def test_another_key_or_place_opens_nothing(key: bytes, place: bytes) -> None:
    with pytest.raises(Unopened):
        unseal(seal(b"text", key=KEY, context=PLACE), key=key, context=place)


def test_segments_cannot_be_cut_off_moved_repeated_or_added(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sealing, "SEGMENT_BYTES", 16)
    size = 16 + TAG_BYTES
    sealed = seal(bytes(range(64)), key=KEY, context=PLACE)
    head, parts = sealed[:HEAD], [sealed[at : at + size] for at in range(HEAD, len(sealed), size)]
    assert len(parts) == 4
    other = seal(bytes(64), key=KEY, context=PLACE)[HEAD : HEAD + size]
    for order in (
        parts[:3],
        parts[:0],
        [parts[1], parts[0], *parts[2:]],
        [*parts, parts[3]],
        [parts[0], *parts],
        [other, *parts[1:]],
        [*parts[:3], parts[3][:-1]],
    ):
        with pytest.raises(Unopened):
            unseal(head + b"".join(order), key=KEY, context=PLACE)
    for cut in range(len(sealed)):
        with pytest.raises(Unopened):
            unseal(sealed[:cut], key=KEY, context=PLACE)


def test_a_stream_is_never_held_as_a_whole() -> None:
    class Long(io.RawIOBase):
        left, most = 5_000_000, 0

        def read(self, size: int = -1) -> bytes:
            assert 0 < size <= SEGMENT_BYTES + TAG_BYTES
            taken = min(size, self.left)
            self.left -= taken
            return bytes(taken)

    target = io.BytesIO()
    seal_stream(Long(), target, key=KEY, context=PLACE)  # type: ignore[arg-type]
    target.seek(0)
    sizes = [len(part) for part in open_stream(target, key=KEY, context=PLACE)]
    assert sum(sizes) == 5_000_000
    assert max(sizes) == SEGMENT_BYTES
