from __future__ import annotations

from pathlib import Path

import pytest
from deepfake_app.limits import PageLimits
from deepfake_app.storage import Uploads

from deepfake.errors import MediaError, SettingsError, TooLarge
from tests.app.media import sent


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path, PageLimits(upload_bytes=1000, disk_bytes=1500))


def test_an_upload_belongs_to_one_request_and_is_deleted(uploads: Uploads) -> None:
    file = sent(uploads, b"content", "../../a/photo.jpg")
    with uploads.claimed(file["path"], name=file["name"]) as upload:
        assert upload.name == "photo.jpg"
        assert upload.path.read_bytes() == b"content"
        assert upload.path.name == "upload.jpg"
        with pytest.raises(MediaError, match="no longer here"), uploads.claimed("", name="a"):
            pass
        with pytest.raises(MediaError) as caught, uploads.claimed(file["path"], name="a"):
            pass
        assert caught.value.code == "upload_gone"
    assert list(uploads.folder.iterdir()) == []
    assert uploads.bytes == 0


def test_equal_files_of_two_visitors_are_two_uploads(uploads: Uploads) -> None:
    one, two = (sent(uploads, b"same", "same.png") for _ in range(2))
    with uploads.claimed(one["path"], name="same.png") as mine:
        with uploads.claimed(two["path"], name="same.png") as theirs:
            assert mine.path != theirs.path
        assert mine.path.read_bytes() == b"same"


def test_an_upload_is_deleted_when_its_examination_fails(uploads: Uploads) -> None:
    file = sent(uploads, b"content", "a.jpg")
    with pytest.raises(ZeroDivisionError), uploads.claimed(file["path"], name="a"):
        raise ZeroDivisionError
    assert list(uploads.folder.iterdir()) == []


def test_nothing_of_a_name_but_a_known_extension_reaches_the_disk(uploads: Uploads) -> None:
    for name in ("a.php", "..", "x.\u202egnp", "a/../../etc.cron", "a.JPG"):
        path = Path(sent(uploads, b"x", name)["path"])
        assert path.parent.parent == uploads.folder
        assert path.name == ("upload.jpg" if name == "a.JPG" else "upload")


def test_the_quota_holds_over_all_uploads_and_is_given_back(uploads: Uploads) -> None:
    first = sent(uploads, b"x" * 900, "a.png")
    with pytest.raises(MediaError, match="no room") as caught:
        sent(uploads, b"x" * 700, "b.png")
    assert caught.value.code == "no_room"
    assert [path.name for path in uploads.folder.iterdir()] == [Path(first["path"]).parent.name]
    assert uploads.bytes == 900
    with uploads.claimed(first["path"], name="a.png"):
        pass
    sent(uploads, b"x" * 700, "b.png")


def test_one_upload_has_its_own_limit(uploads: Uploads) -> None:
    with uploads.receiving("a.png") as incoming:
        incoming.write(b"x" * 1000)
    uploads.drop([str(incoming.path)])
    with pytest.raises(TooLarge, match="larger than"):
        sent(uploads, b"x" * 1001, "a.png")
    assert list(uploads.folder.iterdir()) == []
    assert uploads.bytes == 0


def test_only_the_exact_path_of_a_waiting_upload_is_one(uploads: Uploads, tmp_path: Path) -> None:
    path = sent(uploads, b"content", "a.png")["path"]
    assert uploads.hold(path)
    assert not uploads.hold(str(Path(path).parent / "other"))
    assert not uploads.hold("/etc/" + Path(path).parent.name + "/passwd")
    assert not uploads.hold("https://example.com/a.png")
    with uploads.claimed(path, name="a"):
        assert not uploads.hold(path)


def test_what_a_visitor_left_behind_is_deleted(uploads: Uploads) -> None:
    mine, theirs = (sent(uploads, b"content", "a.png")["path"] for _ in range(2))
    uploads.belong_to("me", [mine, "/etc/passwd"])
    uploads.belong_to("you", [theirs])
    uploads.forget("me")
    assert not Path(mine).exists()
    assert Path(theirs).exists()


def test_a_sweep_deletes_what_was_abandoned_and_nothing_in_work(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, PageLimits(abandoned_seconds=1e-9))
    waiting, working = (sent(uploads, b"content", "a.png")["path"] for _ in range(2))
    with uploads.claimed(working, name="a"):
        uploads.sweep()
        assert Path(working).exists()
    assert not Path(waiting).exists()
    kept = Uploads(tmp_path, PageLimits())
    path = sent(kept, b"content", "a.png")["path"]
    kept.sweep()
    assert Path(path).exists()


@pytest.mark.parametrize("name", ["disk_bytes", "file_seconds", "connections"])
def test_a_limit_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=f"limit {name} 0: not positive"):
        PageLimits(**{name: 0})  # type: ignore[arg-type]
