from __future__ import annotations

import http.server
import io
import json
import random
import threading
import time
import tracemalloc
import zlib
from typing import Any

import pytest

from deepfake.errors import SettingsError
from deepfake.media.opening import open_media
from deepfake.media.sniff import sniff
from deepfake.settings import Limits
from deepfake.text import printable
from deepfake.traces.containers import read_metadata
from deepfake.traces.manifests import _fit, _from_store, bounded, read_manifest
from deepfake.traces.metadata_blocks import VALUE_CHARACTERS
from examples import samples
from tests import evidence_files as files
from tests import media_files as make

MEBIBYTE = 1024**2


def metadata(data: bytes, format: str, *, limit_bytes: int = 8 * MEBIBYTE) -> dict[str, Any]:
    found = read_metadata(io.BytesIO(data), format=format, limit_bytes=limit_bytes)
    json.dumps(found)
    return found


def manifest(data: bytes, format: str = "jpeg", anchors: str | None = None) -> dict[str, Any]:
    found = read_manifest(io.BytesIO(data), format=format, trust_anchors=anchors)
    json.dumps(found)
    return found


@pytest.fixture(scope="module")
def signer() -> samples.Signer:
    return samples.make_signer()


@pytest.fixture(scope="module")
def signed(signer: samples.Signer) -> bytes:
    steps = samples.actions(samples.created("trainedAlgorithmicMedia"))
    return samples.sign(files.image("JPEG"), steps, signer)


# Text for people


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("two\r\nlines\tand\x00 more", "two lines and more"),
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("a\u202egpj.exe\u202c", "agpj.exe"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("lone \ud800 surrogate", "lone surrogate"),
        ("line\u2028separator", "line separator"),
        ("Grüße 深度", "Grüße 深度"),
        ("", ""),
    ],
)
def test_printable_keeps_text_and_drops_controls(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_printable_cuts_long_text_and_says_so() -> None:
    assert printable("x" * 500, most=10) == "xxxxxxxxx…"
    assert len(printable("y" * 10_000_000)) == 120
    assert printable("\x00" * 5000 + "end", most=10) == "…"


# Metadata by format


@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "avif"])
def test_exif_of_every_picture_format(format: str) -> None:
    data = files.image(
        format.upper(), exif={0x010F: "Maker", 0x0131: "Tool"}, exif_ifd={0x829D: 2.8}
    )
    exif = metadata(data, format)["exif"]
    assert (exif["Make"], exif["Software"], exif["FNumber"]) == ("Maker", "Tool", "2.8")


@pytest.mark.parametrize("format", ["jpeg", "webp", "avif", "gif", "tiff", "png"])
def test_xmp_of_every_picture_format(format: str) -> None:
    packet = files.xmp(
        'xmp:CreatorTool="Tool"', "<dc:title><rdf:Alt><rdf:li>T</rdf:li></rdf:Alt></dc:title>"
    )
    if format == "jpeg":
        data = files.jpeg_xmp(packet)
    elif format == "png":
        data = files.png_with(
            files.png_chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + packet), after_pixels=True
        )
    elif format == "gif":
        plain = files.image("GIF")
        tail = bytes([1, *range(255, -1, -1), 0])
        block = b"!\xff\x0bXMP DataXMP" + packet + tail
        at = 13 + 3 * 2 ** ((plain[10] & 7) + 1)
        data = plain[:at] + block + plain[at:]
    elif format == "tiff":
        data = files.image("TIFF", tiffinfo={700: packet})
    else:
        data = files.image(format.upper(), xmp=packet)
    properties = metadata(data, format)["xmp_properties"]
    assert properties["xmp:CreatorTool"] == ["Tool"]
    assert properties["dc:title"] == ["T"]


def test_tags_of_tiff() -> None:
    exif = metadata(files.image("TIFF", exif={0x010F: "Maker", 0x0131: "Tool"}), "tiff")["exif"]
    assert (exif["Make"], exif["Software"]) == ("Maker", "Tool")


def test_png_text_in_all_three_kinds_and_behind_the_pixels() -> None:
    data = files.png_with(
        files.png_chunk(b"tEXt", b"parameters\x00caf\xe9"),
        files.png_chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(b"packed")),
        files.png_chunk(b"iTXt", b"Title\x00\x01\x00\x00\x00" + zlib.compress("grün".encode())),
        after_pixels=True,
    )
    assert metadata(data, "png")["text"] == {
        "parameters": "café",
        "Comment": "packed",
        "Title": "grün",
    }


def test_jpeg_comment_and_iptc() -> None:
    assert metadata(files.image("JPEG", comment=b"hello"), "jpeg")["comment"] == "hello"
    found = metadata(files.jpeg_iptc({110: "Credit line", 120: "Caption"}), "jpeg")
    assert found["iptc"] == {"Credit": "Credit line", "Caption": "Caption"}


def test_gif_comment() -> None:
    assert metadata(files.image("GIF", comment=b"made by hand"), "gif")["comment"] == "made by hand"


@pytest.mark.parametrize("big_endian", [True, False])
def test_user_comment_in_both_byte_orders(big_endian: bool) -> None:
    comment = files.user_comment("Steps: 20, Grüße", big_endian=big_endian)
    data = files.image("JPEG", exif_ifd={0x9286: comment})
    assert metadata(data, "jpeg")["exif"]["UserComment"] == "Steps: 20, Grüße"


@pytest.mark.parametrize("text", ["Möwe über See", "相机", "plain"])
def test_exif_text_is_utf8(text: str) -> None:
    data = files.image("JPEG", exif={0x010E: "-" * len(text.encode())})
    data = data.replace(b"-" * len(text.encode()), text.encode())
    assert metadata(data, "jpeg")["exif"]["ImageDescription"] == text


def test_icc_description() -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = metadata(files.image("JPEG", icc_profile=profile), "jpeg")
    assert "sRGB" in found["icc_description"]


@pytest.mark.parametrize("format", ["mp3", "flac", "ogg", "m4a"])
def test_sound_tags(format: str) -> None:
    tags = metadata(files.sound(format, tags={"comment": "a note", "title": "T"}), format)["tags"]
    assert "a note" in tags.values()


def test_wav_info_list() -> None:
    found = metadata(files.wav_with_info(ISFT="Tool 1", ICMT="note"), "wav")
    assert found["tags"] == {"ISFT": "Tool 1", "ICMT": "note"}


def test_a_file_that_ffmpeg_would_take_for_another_opens_nothing() -> None:
    """SDP text before an MPEG transport stream would have sound received over UDP."""
    sdp = b"G=0\nv=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    head = bytearray(sdp + b"m=audio 45678 RTP/AVP 0\na=x:").ljust(188 * 12, b"A")
    head[188], head[376], head[-1:] = 0x47, 0x47, b"\n"
    content = bytes(head) + make.video_bytes([make.scene()] * 25, format="mpegts")
    assert sniff(content) == "mpegts"
    with open_media(content, limits=Limits(decode_stall_seconds=5)) as media:
        assert media.metadata()["encoding"]["video_codec"] == "h264"


def test_video_tags_and_boxes() -> None:
    found = metadata(samples.mp4(seconds=0.5, tags={"comment": "note", "AIGC": "{}"}), "mp4")
    assert found["tags"]["comment"] == "note"
    assert found["tags"]["AIGC"] == "{}"
    assert {"ftyp", "moov"} <= set(found["atoms"])


def test_xmp_box_of_a_video() -> None:
    packet = files.xmp('xmp:CreatorTool="Tool"')
    box = bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + packet
    data = samples.mp4(seconds=0.5) + (len(box) + 8).to_bytes(4) + b"uuid" + box
    assert metadata(data, "mp4")["xmp_properties"]["xmp:CreatorTool"] == ["Tool"]


def box(kind: bytes, data: bytes) -> bytes:
    return (len(data) + 8).to_bytes(4) + kind + data


def heif_with(exif: bytes, packet: bytes, *, inside: bool) -> bytes:
    """The boxes of a HEIF file around two items, kept in ``idat`` or in ``mdat``."""
    entries = b"\x00\x01\x00\x00Exif\x00" + b"\x00\x02\x00\x00mime\x00application/rdf+xml\x00"
    first, second = entries[:9], entries[9:]
    items = box(b"infe", b"\x02\x00\x00\x00" + first) + box(b"infe", b"\x02\x00\x00\x00" + second)
    iinf = box(b"iinf", bytes(4) + (2).to_bytes(2) + items)
    content = exif + packet
    ftyp = box(b"ftyp", b"heic" + bytes(4) + b"mif1heic")

    def meta(base: int) -> bytes:
        iloc = b"\x01\x00\x00\x00\x44\x00" + (2).to_bytes(2)
        for number, offset, length in ((1, 0, len(exif)), (2, len(exif), len(packet))):
            iloc += number.to_bytes(2) + int(inside).to_bytes(2) + bytes(2) + (1).to_bytes(2)
            iloc += (base + offset).to_bytes(4) + length.to_bytes(4)
        tail = box(b"idat", content) if inside else b""
        return box(b"meta", bytes(4) + iinf + box(b"iloc", iloc) + tail)

    if inside:
        return ftyp + meta(0)
    start = len(ftyp) + len(meta(0)) + 8
    return ftyp + meta(start) + box(b"mdat", content)


@pytest.mark.parametrize("inside", [False, True])
def test_items_of_heif(inside: bool) -> None:
    tags = files.Image.Exif()
    tags[0x0131] = "Tool"
    exif = (6).to_bytes(4) + tags.tobytes()
    found = metadata(heif_with(exif, files.xmp('xmp:CreatorTool="T"'), inside=inside), "heif")
    assert found["exif"] == {"Software": "Tool"}
    assert found["xmp_properties"] == {"xmp:CreatorTool": ["T"]}


def test_positions_are_not_copied() -> None:
    exif = files.image("JPEG", exif={0x8825: {1: "N", 2: (52.0, 31.0, 12.0)}})
    packet = files.jpeg_xmp(files.xmp('exif:GPSLatitude="52,31.2N"'))
    for data in (exif, packet):
        found = metadata(data, "jpeg")
        assert found["has_gps"] is True
        assert "52" not in json.dumps(found)


def test_parts_of_a_composite_are_not_the_file() -> None:
    kind = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    pantry = (
        "<xmpMM:Pantry><rdf:Bag><rdf:li><rdf:Description>"
        f"<Iptc4xmpExt:DigitalSourceType>{kind}</Iptc4xmpExt:DigitalSourceType>"
        "</rdf:Description></rdf:li></rdf:Bag></xmpMM:Pantry>"
    )
    found = metadata(files.jpeg_xmp(files.xmp('xmp:CreatorTool="x"', pantry)), "jpeg")
    assert "iptc_digital_source_type" not in found


# Hostile input


def bombs() -> dict[str, bytes]:
    lines = ['<!ENTITY a0 "ha">']
    lines += [f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12)]
    laughs = "<!DOCTYPE x [" + "".join(lines) + "]><x>&a11;</x>"
    outside = '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/hostname">]><x>&f;</x>'
    return {"laughs": laughs.encode(), "outside": outside.encode()}


@pytest.mark.parametrize("name", ["laughs", "outside"])
def test_xml_entities_are_refused(name: str) -> None:
    started = time.monotonic()
    found = metadata(files.jpeg_xmp(bombs()[name]), "jpeg")
    assert found["problems"] == ["xmp: refused, DTDForbidden"]
    assert "xmp_properties" not in found
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt"])
def test_compressed_text_is_inflated_only_to_the_limit(kind: bytes) -> None:
    packed = zlib.compress(bytes(64 * MEBIBYTE), 1)
    head = b"bomb\x00\x00" if kind == b"zTXt" else b"bomb\x00\x01\x00\x00\x00"
    data = files.png_with(*[files.png_chunk(kind, head + packed)] * 3)
    tracemalloc.start()
    found = metadata(data, "png")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 * MEBIBYTE
    assert found["truncated"] == ["compressed text"]


def test_the_sum_of_all_texts_is_limited() -> None:
    chunk = [files.png_chunk(b"tEXt", f"k{i}".encode() + b"\x00" + b"x" * 5000) for i in range(50)]
    found = metadata(files.png_with(*chunk), "png", limit_bytes=20_000)
    assert sum(map(len, found["text"].values())) <= 20_000
    assert found["problems"]


def test_a_gif_of_endless_sub_blocks_is_left() -> None:
    plain = files.image("GIF")
    started = time.monotonic()
    found = metadata(plain[:-1] + b"!\xfe" + b"\x01x" * 4_000_000, "gif")
    assert "too many sub-blocks" in found["problems"][0]
    assert time.monotonic() - started < 10


def test_long_values_are_cut_and_named() -> None:
    found = metadata(files.png_text(workflow="x" * (VALUE_CHARACTERS + 10)), "png")
    assert len(found["text"]["workflow"]) == VALUE_CHARACTERS
    assert found["truncated"] == ["workflow"]


def test_keys_are_bounded_and_clean() -> None:
    chunks = [files.png_chunk(b"tEXt", f"k\x1b{i}".encode() + b"\x00v") for i in range(2000)]
    found = metadata(files.png_with(*chunks), "png")
    assert len(found["text"]) == 512
    assert not any("\x1b" in key for key in found["text"])


def test_broken_blocks_are_problems_and_the_rest_is_read() -> None:
    data = files.png_with(
        files.png_chunk(b"eXIf", b"MM\x00*\xff\xff\xff\xff"),
        files.png_chunk(b"zTXt", b"bad\x00\x00not zlib"),
        files.png_chunk(b"iTXt", b"short"),
        files.png_chunk(b"tEXt", b"good\x00kept"),
    )
    found = metadata(data, "png")
    assert found["text"]["good"] == "kept"
    assert len(found["problems"]) >= 2


def every_format() -> dict[str, bytes]:
    packet = files.xmp('xmp:CreatorTool="Tool"')
    exif: dict[int, Any] = {0x010F: "Maker", 0x0131: "Tool"}
    made = {
        format: files.image(format.upper(), exif=exif, xmp=packet)
        for format in ("webp", "avif", "png")
    }
    made |= {format: files.sound(format, tags={"comment": "c"}) for format in ("mp3", "flac")}
    made |= {format: files.sound(format, tags={"comment": "c"}) for format in ("ogg", "m4a")}
    made["jpeg"] = files.jpeg_iptc({110: "c"})
    made["tiff"] = files.image("TIFF", exif=exif)
    made["gif"] = files.image("GIF", comment=b"c", xmp=packet)
    made["wav"] = files.wav_with_info(ISFT="Tool")
    made["mp4"] = samples.mp4(seconds=0.25)
    made["bmp"] = files.image("BMP")
    return made


def test_damaged_files_never_raise() -> None:
    chance = random.Random(1)
    for format, data in every_format().items():
        for attempt in range(24):
            broken = bytearray(data)
            for _ in range(1 + attempt % 12):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
            cut = len(broken) if attempt % 2 else chance.randrange(len(broken))
            metadata(bytes(broken[:cut]), format)
            manifest(bytes(broken[:cut]), format)
        for other in ("png", "jpeg", "mp4", "mp3", "tiff", "heif"):
            metadata(data, other)


def test_empty_and_random_bytes() -> None:
    noise = random.Random(2).randbytes(4000)
    for format in [*every_format(), "heif", "mov", "webm", "mkv", "avi"]:
        metadata(b"", format)
        metadata(noise, format)
        assert manifest(noise, format)["state"] in ("absent", "unreadable")


# C2PA


def test_no_manifest_is_absent() -> None:
    assert manifest(files.image("JPEG")) == {"state": "absent"}
    assert manifest(b"", "mkv") == {"state": "absent", "problems": ["format_without_c2pa"]}


def test_valid_is_not_trusted(signed: bytes, signer: samples.Signer) -> None:
    found = manifest(signed)
    assert (found["state"], found["problems"]) == ("valid", ["signingCredential.untrusted"])
    assert found["manifest"]["signature_info"]["common_name"] == "Sample signer"
    assert manifest(signed, anchors=samples.make_signer().root)["state"] == "valid"
    assert manifest(signed, anchors=signer.root)["state"] == "trusted"


@pytest.mark.parametrize("trusting", [False, True])
def test_changed_pixels_are_tampering(
    signed: bytes, signer: samples.Signer, trusting: bool
) -> None:
    changed = samples.transplant(signed, files.image("JPEG", quality=40))
    found = manifest(changed, anchors=signer.root if trusting else None)
    assert found["state"] == "tampered"
    assert "assertion.dataHash.mismatch" in found["problems"]


def test_a_changed_declaration_is_tampering(signed: bytes, signer: samples.Signer) -> None:
    changed = signed.replace(b"trainedAlgorithmicMedia", b"trainedAlgorithmicXedia")
    assert changed != signed
    found = manifest(changed, anchors=signer.root)
    assert found["state"] == "tampered"
    assert "assertion.hashedURI.mismatch" in found["problems"]


def test_an_expired_signer_is_neither_valid_nor_tampered() -> None:
    short = samples.make_signer(valid_days=2 / 86_400)
    steps = samples.actions(samples.created("trainedAlgorithmicMedia"))
    data = samples.sign(files.image("JPEG"), steps, short)
    time.sleep(3)
    found = manifest(data, anchors=short.root)
    assert found["state"] == "present"
    assert "signingCredential.expired" in found["problems"]


def test_a_damaged_manifest_is_unreadable(signed: bytes) -> None:
    at = signed.index(b"jumb")
    assert manifest(signed[:at] + b"jXmb" + signed[at + 4 :])["state"] in ("unreadable", "absent")
    at = signed.index(b"jumd")
    assert manifest(signed[:at] + b"jXmd" + signed[at + 4 :])["state"] == "unreadable"


def test_a_remote_manifest_is_not_fetched(signer: samples.Signer) -> None:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}/manifest.c2pa"
        linked = samples.sign(files.image("JPEG"), samples.actions(), signer, remote=address)
        found = manifest(linked, anchors=signer.root)
        server.shutdown()
        thread.join()
    assert asked == []
    assert (found["state"], found["remote"]) == ("present", address)


@pytest.mark.parametrize("format", ["png", "webp", "gif", "tiff", "avif"])
def test_manifests_of_other_picture_formats(format: str, signer: samples.Signer) -> None:
    steps = samples.actions(samples.created("digitalCapture"))
    data = files.image(format.upper())
    data = samples.sign(data, steps, signer, mime=f"image/{format}")
    assert manifest(data, format, signer.root)["state"] == "trusted"


@pytest.mark.parametrize("format", ["mp4", "wav", "mp3", "m4a", "flac"])
def test_manifests_of_sound_and_video(format: str, signer: samples.Signer) -> None:
    mime = {"mp4": "video/mp4", "mp3": "audio/mpeg", "m4a": "audio/mp4"}.get(
        format, f"audio/{format}"
    )
    if format == "mp4":
        data = samples.mp4(seconds=0.5)
    else:
        data = files.wav_with_info(ISFT="x") if format == "wav" else files.sound(format)
    data = samples.sign(data, samples.actions(samples.created("digitalCapture")), signer, mime=mime)
    assert manifest(data, format)["state"] == "valid"


def test_broken_trust_anchors_are_an_error_of_the_settings(signed: bytes) -> None:
    with pytest.raises(SettingsError, match="trust anchors"):
        manifest(signed, anchors="no certificate")


@pytest.mark.parametrize(
    ("state", "failures", "trusted"),
    [
        ("Trusted", [], ["first", "second"]),
        ("Trusted", ["claimSignature.mismatch"], []),  # a certificate of somebody trusted, copied
        ("Trusted", ["signingCredential.expired"], []),
        ("Invalid", [], []),
    ],
)
def test_trust_is_followed_from_the_active_manifest_on(
    state: str, failures: list[str], trusted: list[str]
) -> None:
    good = {"success": [{"code": "signingCredential.trusted"}], "failure": []}
    seen = good | {"failure": [{"code": code} for code in failures]}

    def holding(label: str, record: dict[str, Any]) -> dict[str, Any]:
        return {
            "ingredients": [
                {"active_manifest": label, "validation_results": {"activeManifest": record}}
            ]
        }

    store = {
        "active_manifest": "active",
        "manifests": {
            "active": holding("first", seen),
            "first": holding("second", good),
            "second": {},
            "stranger": holding("third", good),
            "third": holding("third", good),
        },
        "validation_results": {"activeManifest": good},
        "validation_state": state,
    }
    assert _from_store(store)["trusted"] == trusted


def test_manifests_are_bounded() -> None:
    deep: Any = "x" * 10_000
    for _ in range(50):
        deep = {"k": [deep] * 200}
    text = json.dumps(bounded(deep, entries=4))
    assert len(text) < 1_000_000
    wide = {"assertions": [{"data": {str(i): "x" * 1000 for i in range(64)}}] * 64}
    assert 0 < len(json.dumps(_fit(wide))) <= 1024**2


# Through the limited child


def test_media_reads_both_in_its_child(signed: bytes, signer: samples.Signer) -> None:
    with open_media(signed) as media:
        assert media.manifest(trust_anchors=signer.root)["state"] == "trusted"
        assert media.manifest()["state"] == "valid"
    with open_media(files.png_text(parameters="Steps: 1")) as media:
        assert media.metadata()["text"] == {"parameters": "Steps: 1"}
