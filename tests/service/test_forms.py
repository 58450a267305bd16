"""A report as a PDF and as pictures, within what the key may see."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from deepfake_service.store.keys import Identity, Policy
from PIL import Image

from deepfake.detector import Detector
from deepfake.reasons import Code
from deepfake.types import Evidence, Kind
from tests.reports import face_evidence, make_evidence, make_report, video_evidence
from tests.service.serving import EVERYTHING, Client, serviced

FORMS = ("pdf", "heatmap", "sheet")


@pytest.fixture
def client(detector: Detector, tmp_path: Path) -> Iterator[Client]:
    with serviced(detector, tmp_path) as client:
        yield client


def keep(client: Client, *evidence: Evidence, policy: Policy = Policy.FULL, **media: object) -> str:
    """The id of a report of the tenant whose key the client has from now on."""
    client.key = client.service.keys.create(tenant="shop", scopes=EVERYTHING, policy=policy)
    identity = client.service.keys.identify(client.key)
    assert isinstance(identity, Identity)
    return client.service.reports.add(identity, make_report(*evidence, **media)).id


def picture(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content)) as opened:
        assert opened.format == "PNG"
        opened.load()
        return opened.copy()


def pictures_in(pdf: bytes) -> int:
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")
    for word in (b"/JavaScript", b"/URI", b"/Launch", b"/EmbeddedFile", b"http"):
        assert word not in pdf
    return len(re.findall(rb"/Subtype /Image", pdf))


def test_a_picture_with_heat_maps(client: Client) -> None:
    report = keep(client, face_evidence(), width=400, height=200)
    answer = client.get(f"/v1/reports/{report}?format=heatmap")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    drawn = picture(answer.content)
    assert drawn.size == (400, 200)
    hot, cold = drawn.getpixel((40, 75)), drawn.getpixel((300, 150))
    assert hot != cold
    pdf = client.get(f"/v1/reports/{report}?format=pdf")
    assert pdf.headers["content-type"] == "application/pdf"
    assert pdf.headers["content-disposition"] == f'inline; filename="{report}.pdf"'
    assert pictures_in(pdf.content) == 1
    again = client.get(f"/v1/reports/{report}?format=pdf")
    assert again.content == pdf.content
    refused = client.get(f"/v1/reports/{report}?format=sheet")
    assert (refused.status_code, refused.json()["code"]) == (404, Code.NOTHING_HERE)


def test_a_video_with_timelines(client: Client) -> None:
    report = keep(client, *video_evidence(), kind=Kind.VIDEO, width=400, height=300, seconds=20.0)
    sheet = picture(client.get(f"/v1/reports/{report}?format=sheet").content)
    assert sheet.width == 1440
    assert pictures_in(client.get(f"/v1/reports/{report}?format=pdf").content) == 2
    assert client.get(f"/v1/reports/{report}?format=heatmap").status_code == 200


@pytest.mark.parametrize("policy", [Policy.ROUNDED, Policy.VERDICT])
def test_a_key_that_sees_less_sees_no_pictures(client: Client, policy: Policy) -> None:
    report = keep(client, face_evidence(), width=400, height=200, policy=policy)
    assert client.get(f"/v1/reports/{report}?format=heatmap").status_code == 404
    assert pictures_in(client.get(f"/v1/reports/{report}?format=pdf").content) == 0


def test_a_report_without_any_and_a_foreign_one(client: Client) -> None:
    report = keep(client)
    assert pictures_in(client.get(f"/v1/reports/{report}?format=pdf").content) == 0
    for form in ("heatmap", "sheet"):
        assert client.get(f"/v1/reports/{report}?format={form}").status_code == 404
    client.key = client.service.keys.create(tenant="foreign", scopes=EVERYTHING)
    for form in FORMS:
        answer = client.get(f"/v1/reports/{report}?format={form}")
        assert (answer.status_code, answer.json()["code"]) == (404, Code.NOTHING_HERE)
    assert client.get(f"/v1/reports/{report}?format=docx").status_code == 422


def test_words_of_a_file_are_words_in_a_pdf(client: Client) -> None:
    odd = "<b>&amp;</b> <img src='file:///etc/passwd'/> \x1b[31m 中文 \u202e 😀 " + "x" * 9000
    report = keep(client, make_evidence("metadata", claim=odd), format="png")
    pdf = client.get(f"/v1/reports/{report}?format=pdf")
    assert pdf.status_code == 200
    assert pictures_in(pdf.content) == 0
