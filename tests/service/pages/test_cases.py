"""The cases: found, compared, ruled on, counted and exported; each tenant sees its own alone."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from deepfake_service.pages import cases as cases_module
from deepfake_service.pages.precision import wilson
from deepfake_service.service import Service
from deepfake_service.store.users import Role

from deepfake.detector import Detector
from deepfake.scan.tables import read_cell
from deepfake.types import Kind, Verdict
from tests.service.pages.visiting import Browser, add_report, enter, visitor_of
from tests.service.serving import PICTURE, Client, serviced

HOSTILE = [
    "<script>alert(1)</script>.png",
    '"><img src=x onerror=alert(1)>.png',
    '=HYPERLINK("http://evil.example","x").png',
    "+1+1.png",
    "-2+3.png",
    "@SUM(A1).png",
    "a\r\nSet-Cookie: x=y.png",
    "\u202egnp.exe",
    "\x1b[31mred\x07.png",
    "{{ 7*7 }}{% raw %}.png",
    "' OR 1=1 --.png",
    "100%_.png",
    "имя файла.png",
    "",
]


@pytest.fixture
def anna(service: Service) -> Browser:
    return enter(service, "anna")


def names_of(page: str) -> list[str]:
    return re.findall(r"<a data-row [^>]*>(.*?)</a>", page)


def test_the_history_is_filtered_and_searched(service: Service, anna: Browser) -> None:
    identity = visitor_of(anna).identity
    first = add_report(service, identity, "Holiday Beach.png", sha256="ab" * 32)
    add_report(service, identity, "talk_100%.wav", Verdict.AUTHENTIC, kind=Kind.AUDIO)
    add_report(service, identity, "ÄRGER.mp4", Verdict.SUSPICIOUS, kind=Kind.VIDEO)
    assert anna.rule(first, "overturn", "The Photographer sent the RAW file").status_code == 303
    for query, names in {
        "": ["ÄRGER.mp4", "talk_100%.wav", "Holiday Beach.png"],
        "verdict=synthetic": ["Holiday Beach.png"],
        "kind=audio": ["talk_100%.wav"],
        "ruling=overturn": ["Holiday Beach.png"],
        "ruling=none": ["ÄRGER.mp4", "talk_100%.wav"],
        "ruling=none&kind=video": ["ÄRGER.mp4"],
        "name=beach": ["Holiday Beach.png"],
        "name=ärger": ["ÄRGER.mp4"],
        "name=%25": ["talk_100%.wav"],
        "name=_": ["talk_100%.wav"],
        "search=photographer+beach": ["Holiday Beach.png"],
        "search=" + "ab" * 4: ["Holiday Beach.png"],
        f"search={first}": ["Holiday Beach.png"],
        "search=nothing": [],
        "since=2000-01-01&until=2000-01-02": [],
        "since=2000-01-01": ["ÄRGER.mp4", "talk_100%.wav", "Holiday Beach.png"],
    }.items():
        assert names_of(anna.get(f"/cases?{query}").text) == names, query


@pytest.mark.parametrize(
    "query",
    [
        "verdict=x",
        "kind='",
        "ruling=all",
        "since=yesterday",
        "until=0000-00-00",
        "until=2000-01-01T00:00",
        "until=9999-12-31",
        "before=-1",
        "before=" + "9" * 19,
        "after=1;DROP TABLE cases",
        "before=٣",
        "name=" + "x" * 201,
    ],
)
def test_a_wrong_filter_is_one_clear_page(anna: Browser, query: str) -> None:
    answer = anna.get(f"/cases?{query}")
    assert answer.status_code == 422
    assert "cannot be used" in answer.text


def test_pages_go_on_and_back(
    service: Service, anna: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cases_module, "ROWS", 3)
    for number in range(7):
        add_report(service, visitor_of(anna).identity, f"{number}.png")

    def follow(page: str, word: str) -> str | None:
        found = re.search(rf'href="([^"]*)">{word}</a>', page)
        return found and anna.get(found[1].replace("&amp;", "&")).text

    page, seen = anna.get("/cases?verdict=synthetic").text, []
    assert follow(page, "Newer") is None
    while page:
        seen += names_of(page)
        last, page = page, follow(page, "Older")
    assert seen == [f"{number}.png" for number in range(6, -1, -1)]
    page = follow(last, "Newer")
    assert page is not None
    assert names_of(page) == ["3.png", "2.png", "1.png"]
    page = follow(page, "Newer")
    assert page is not None
    assert names_of(page) == ["6.png", "5.png", "4.png"]
    assert follow(page, "Newer") is None


def test_a_report_is_ruled_on_with_a_note(service: Service, anna: Browser) -> None:
    report = add_report(service, visitor_of(anna).identity)
    page = anna.get(f"/cases/reports/{report}").text
    assert "Nobody has ruled" in page
    assert "df-verdict" in page
    note = "First line\r\n<b>second</b>\x00\u202e"
    answer = anna.rule(report, "escalate", note)
    assert answer.headers["location"] == f"/cases/reports/{report}?ruled=yes"
    anna.rule(report, "confirm")
    page = anna.get(answer.headers["location"]).text
    assert "The ruling was kept" in page
    assert "First line<br>&lt;b&gt;second&lt;/b&gt;" in page
    assert page.index("escalated") < page.index("confirmed")
    assert "by anna" in page
    (_, ruled), *others = service.cases.walk(
        visitor_of(anna).identity.tenant, cases_module.Filter(), most=9
    )
    assert others == []
    assert ruled is not None
    assert (ruled.ruling, ruled.by) == ("confirm", "anna")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ({"ruling": "confirm"}, 403),
        ({"ruling": "confirm", "form": "0" * 64}, 403),
        ({"ruling": "delete", "form": "right"}, 422),
        ({"form": "right"}, 422),
        ({"ruling": "confirm", "note": "x" * 2001, "form": "right"}, 422),
    ],
)
def test_a_wrong_ruling_changes_nothing(
    service: Service, anna: Browser, data: dict[str, str], status: int
) -> None:
    report = add_report(service, visitor_of(anna).identity)
    if data.get("form") == "right":
        data = data | {"form": anna.form("/cases")}
    assert anna.post(f"/cases/reports/{report}/rulings", **data).status_code == status
    assert "Nobody has ruled" in anna.get(f"/cases/reports/{report}").text


def test_two_reports_stand_side_by_side(service: Service, anna: Browser) -> None:
    identity = visitor_of(anna).identity
    one, two = add_report(service, identity, "one.png"), add_report(service, identity, "two.png")
    page = anna.get(f"/cases/compare?report={one}&report={two}").text
    assert page.count('class="df-report df-synthetic"') == 2
    assert page.index("one.png") < page.index("two.png")
    for query in (
        "",
        f"report={one}",
        f"report={one}&report={one}",
        f"report={one}&report={two}&report=x",
    ):
        assert anna.get(f"/cases/compare?{query}").status_code == 422


def test_precision_counts_the_last_rulings(service: Service, anna: Browser) -> None:
    identity = visitor_of(anna).identity
    for number, ruling in enumerate(["confirm"] * 3 + ["overturn", "escalate", ""]):
        report = add_report(service, identity, f"{number}.png")
        if ruling:
            anna.rule(report, "overturn")
            anna.rule(report, ruling)
    page = anna.get("/cases/precision").text
    row = re.sub(r"<[^>]*>|\s+", " ", page[page.index("df-synthetic") :].split("</tr>")[0])
    assert re.search(r"75 % +30 … 95 % +3 +1 +1 +1 *$", row), row
    assert "–" in page[page.index("df-authentic") :].split("</tr>")[0]
    assert "–" in anna.get("/cases/precision?kind=audio").text
    assert wilson(0, 0) == (0, 1)
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


def test_exports_hold_what_the_filter_shows(service: Service, anna: Browser) -> None:
    identity = visitor_of(anna).identity
    for name in HOSTILE:
        add_report(service, identity, name)
    ruled = add_report(service, identity, "ruled.wav", kind=Kind.AUDIO)
    anna.rule(ruled, "overturn", '=cmd|" /C calc"!A0\n"quoted", and more')
    answer = anna.get("/cases/export.csv")
    assert re.fullmatch(
        r'attachment; filename="cases-\d{4}-\d\d-\d\d\.csv"',
        answer.headers["content-disposition"],
    )
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [read_cell(row["name"]) for row in rows] == ["ruled.wav", *HOSTILE[::-1]]
    for row in rows:
        assert not row["name"].startswith(("=", "+", "-", "@", "\t", "\r"))
    assert rows[0]["note"].startswith("'=cmd")
    assert (rows[0]["ruling"], rows[0]["ruled_by"]) == ("overturn", "anna")
    assert anna.get("/cases/export.csv?kind=audio").text.count("\r\n") == 2
    pdf = anna.get("/cases/export.pdf")
    assert pdf.headers["content-type"] == "application/pdf"
    assert pdf.content.startswith(b"%PDF-")
    assert pdf.content.rstrip().endswith(b"%%EOF")
    assert b"/JavaScript" not in pdf.content
    assert len(pdf.content) > len(anna.get("/cases/export.pdf?kind=video").content)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text_on_every_page(service: Service, anna: Browser, name: str) -> None:
    identity = visitor_of(anna).identity
    one, two = add_report(service, identity, name), add_report(service, identity, name)
    anna.rule(one, "confirm", name)
    for path in (
        "/cases",
        f"/cases/reports/{one}",
        f"/cases/compare?report={one}&report={two}",
    ):
        page = anna.get(path)
        assert page.status_code == 200, path
        assert "<script>alert" not in page.text
        assert "<img src=x" not in page.text
        assert "49" not in re.findall(r"<h1[^>]*>(.*?)</h1>", page.text)
        assert not any(it in page.text for it in "\u202e\x1b\x07"), path
    page = anna.get("/cases", params={"search": name[:200], "name": name[:200]})
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    if name.isprintable() and name:
        assert len(names_of(page.text)) == 2


PAGES = [
    ("GET", "/cases/reports/{report}"),
    ("POST", "/cases/reports/{report}/rulings"),
    ("GET", "/cases/compare?report={report}&report={own}"),
    ("GET", "/cases/compare?report={own}&report={report}"),
    ("GET", "/cases/batches/{batch}"),
    ("GET", "/cases/thumbnails/{report}"),
]
LISTS = ["/cases", "/cases/batches", "/cases/export.csv", "/cases/export.pdf", "/cases/precision"]
OPEN = {"/login", "/logout", "/cases/pages.css", "/cases/pages.js", "/cases/metrics"}


def test_every_page_is_in_the_walk_below(anna: Browser) -> None:
    walked = {re.sub(r"\?.*", "", path).replace("{own}", "") for _, path in PAGES} | set(LISTS)
    assert {route.path for route in anna.app.routes} == walked | OPEN


def test_no_page_shows_or_changes_what_is_another_tenant_s(service: Service, anna: Browser) -> None:
    foreign = enter(service, "bert", tenant="foreign", role=Role.ADMIN)
    answer = anna.ask(
        "POST",
        f"/cases/batches?form={anna.form('/cases/batches')}",
        files={"file": ("secret.png", PICTURE)},
    )
    batch = answer.headers["location"].rpartition("/")[2]
    report = wait_for_report(anna, batch)
    assert anna.get(f"/cases/thumbnails/{report}").headers["content-type"] == "image/jpeg"
    own = add_report(service, visitor_of(foreign).identity)
    data = {"ruling": "overturn", "form": foreign.form("/cases")}
    for method, path in PAGES:
        filled = path.format(report=report, own=own, batch=batch)
        answer = foreign.ask(method, filled, **({"data": data} if method == "POST" else {}))
        assert answer.status_code == 404, path
        assert "secret" not in answer.text
    for path in LISTS:
        page = foreign.get(path)
        assert page.status_code == 200
        assert "secret" not in page.text
        assert report not in page.text
        assert batch not in page.text
    assert "secret.png" in anna.get("/cases").text
    assert "Nobody has ruled" in anna.get(f"/cases/reports/{report}").text
    stranger = Browser(service)
    for method, path in [*PAGES, *(("GET", path) for path in LISTS), ("POST", "/cases/batches")]:
        answer = stranger.ask(method, path.format(report=report, own=own, batch=batch))
        assert answer.status_code == 303, path
        assert answer.headers["location"].startswith("/login?next=")


def wait_for_report(browser: Browser, batch: str) -> str:
    """The report of the only file of a batch, once there is one."""
    client = Client(browser.service)
    identity = visitor_of(browser).identity
    ((job, _),) = browser.service.cases.batch(identity.tenant, batch)
    client.key = browser.service.keys.create(tenant="shop")
    report: str = client.wait(job.id)["report"]
    return report


@pytest.mark.parametrize(
    "id", ["1", "rep_" + "0" * 32, "..%2f..%2fetc", "'", "rep_%00", "x" * 5000]
)
def test_what_is_not_there_is_a_page_that_says_so(anna: Browser, id: str) -> None:
    for path in ("reports", "thumbnails", "batches"):
        answer = anna.get(f"/cases/{path}/{id}")
        assert answer.status_code == 404
        assert "nothing at this address" in answer.text
    assert anna.ask("DELETE", "/cases").status_code == 405


def test_batches_of_people_are_examined_and_leave_nothing(service: Service, anna: Browser) -> None:
    form = anna.form("/cases/batches")
    files = [("file", ("a.png", PICTURE)), ("file", ("<b>no media.txt", b"nothing"))]
    for wrong in ("", "?form=" + "0" * 64):
        assert anna.ask("POST", f"/cases/batches{wrong}", files=files).status_code == 403
    answer = anna.ask("POST", f"/cases/batches?form={form}", files=files)
    assert answer.status_code == 303
    path = answer.headers["location"]
    client = Client(service, service.keys.create(tenant="shop"))
    for job, _ in service.cases.batch(visitor_of(anna).identity.tenant, path.rpartition("/")[2]):
        client.wait(job.id)
    page = anna.get(path).text
    assert "2 of 2 files have ended" in page
    assert "data-unfinished" not in page
    assert names_of(page) == ["a.png"]
    assert "&lt;b&gt;no media.txt" in page
    assert "failed" in page
    assert page.count('src="/cases/thumbnails/') == 1
    assert path in anna.get("/cases/batches").text
    assert client.media() == []
    assert anna.ask("POST", f"/cases/batches?form={form}", content=b"x").status_code == 415


@pytest.fixture
def bare(detector: Detector, tmp_path: Path) -> Iterator[Client]:
    with serviced(detector, tmp_path / "bare") as client:
        yield client


def test_nothing_of_the_media_is_kept_unless_that_is_said(bare: Client) -> None:
    report = bare.send("/v1/detect").json()["id"]
    browser = Browser(bare.service)
    assert browser.get(f"/cases/thumbnails/{report}").status_code == 404
    assert "Preview" not in browser.get("/cases").text
    for path in bare.service.settings.folder.iterdir():
        if path.is_file():
            assert b"\xff\xd8\xff" not in path.read_bytes(), path


def test_a_thumbnail_is_deleted_with_its_report(detector: Detector, tmp_path: Path) -> None:
    with serviced(detector, tmp_path, thumbnails=True, keep_days=1e-9) as client:
        browser = Browser(client.service)
        report = client.send("/v1/detect").json()["id"]
        assert browser.get(f"/cases/thumbnails/{report}").status_code == 200
        client.service.forget()
        assert browser.get(f"/cases/thumbnails/{report}").status_code == 404
        assert names_of(browser.get("/cases").text) == []
