from __future__ import annotations

import io
import json
import time
from typing import Any

import pytest

from deepfake.analyzers.metadata import Metadata, judge
from deepfake.media.opening import open_media
from deepfake.settings import DetectOptions
from deepfake.traces.containers import read_metadata
from deepfake.traces.generators import aigc_label, comfyui_nodes, name_of, source_type
from deepfake.types import Evidence, Kind, Status, Weight
from examples import samples
from tests import evidence_files as files
from tests.media_files import scene, tone, video_bytes

SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
AIGC = {"Label": "1", "ContentProducer": "001191110108MA01", "ProduceID": "p-1"}
PROMPT = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 20}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "m.safetensors"}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}},
}
WORKFLOW = {
    "nodes": [{"id": 3, "type": "KSampler", "inputs": []}, {"id": 4, "type": "VAEDecode"}],
    "links": [],
}
UPSCALE = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "holiday.jpg"}},
    "2": {"class_type": "ImageUpscaleWithModel", "inputs": {}},
    "3": {"class_type": "SaveImage", "inputs": {}},
}
NOVELAI = {"prompt": "p", "steps": 28, "sampler": "k_euler", "seed": 1, "scale": 5.0, "uc": "u"}
INVOKE = {"generation_mode": "txt2img", "positive_prompt": "p", "seed": 1}
MIDJOURNEY = "a lake --ar 16:9 --v 6.1 Job ID: 0123abcd-0123-4567-89ab-0123456789ab"
SUNO = "made with suno; created=2026-02-25T03:57:12Z; id=6ec687e6-b51d-4a4b-9472-27bd8be77ffa"
CAMERA = {0x010F: "Canon", 0x0110: "Canon EOS R5"}
EXPOSURE = {0x829A: 0.004, 0x829D: 2.8, 0x8827: 200, 0xA434: "RF35mm"}
NO_TIME = 30.0
"""Seconds of the processor in which hostile text is done with; what grows with its square takes
minutes.
"""


def look(data: bytes, format: str) -> list[Evidence]:
    found = read_metadata(io.BytesIO(data), format=format, limit_bytes=8 * 1024**2)
    evidence = judge(found)
    for item in evidence:
        json.dumps(dict(item.details))
        assert item.claim.isprintable()
        assert len(item.claim) < 400
    return evidence


def of(data: bytes, format: str = "png") -> tuple[Weight, str | None, str | None]:
    first = look(data, format)[0]
    assert first.score is None, "nobody knows how often unsigned text is false"
    details = first.details
    return first.weight, details.get("generator"), details.get("declares")


def claim(generator: str | None, declares: str = "generated") -> tuple[Any, ...]:
    return Weight.CLAIM, generator, declares


def hint(generator: str | None, declares: str | None = "generated") -> tuple[Any, ...]:
    return Weight.HINT, generator, declares


NOTHING = (Weight.SCORE, None, None)


# Claims


@pytest.mark.parametrize(
    ("texts", "generator"),
    [
        ({"parameters": samples.PARAMETERS}, "Automatic1111 or compatible"),
        ({"prompt": json.dumps(PROMPT)}, "ComfyUI"),
        ({"workflow": json.dumps(WORKFLOW)}, "ComfyUI"),
        ({"invokeai_metadata": json.dumps(INVOKE)}, "InvokeAI"),
        ({"invokeai_graph": "{}"}, "InvokeAI"),
        ({"sd_metadata": json.dumps({"app_id": "invoke-ai/InvokeAI"})}, "InvokeAI"),
        ({"Dream": '"a lake" -s 50 -S 42 -W 512 -H 512 -C 7.5 -A k_lms'}, "InvokeAI"),
        ({"Software": "NovelAI", "Comment": json.dumps(NOVELAI)}, "NovelAI"),
        ({"fooocus_scheme": "a1111", "parameters": samples.PARAMETERS}, "Fooocus"),
        ({"parameters": json.dumps({"sui_image_params": {"prompt": "p"}})}, "SwarmUI"),
        ({"Description": MIDJOURNEY, "Author": "someone"}, "Midjourney"),
    ],
)
def test_parameter_blocks_are_claims(texts: dict[str, str], generator: str) -> None:
    assert of(files.png_text(**texts)) == claim(generator)


def test_inpainting_is_an_edit() -> None:
    parameters = samples.PARAMETERS + ", Denoising strength: 0.75, Mask blur: 4"
    expected = claim("Automatic1111 or compatible", "edited")
    assert of(files.png_text(parameters=parameters)) == expected


@pytest.mark.parametrize("big_endian", [True, False])
def test_parameters_in_the_user_comment_of_a_jpeg(big_endian: bool) -> None:
    comment = files.user_comment(samples.PARAMETERS, big_endian=big_endian)
    for format in ("jpeg", "webp"):
        data = files.image(format.upper(), exif_ifd={0x9286: comment})
        assert of(data, format) == claim("Automatic1111 or compatible")


def test_comfyui_in_the_exif_of_a_webp() -> None:
    data = files.image("WEBP", exif={0x0110: "prompt:" + json.dumps(PROMPT)})
    assert of(data, "webp") == claim("ComfyUI")


def test_comfyui_in_the_comment_of_a_video() -> None:
    comment = json.dumps({"prompt": json.dumps(PROMPT), "workflow": {}})
    assert of(samples.mp4(seconds=0.3, tags={"comment": comment}), "mp4") == claim("ComfyUI")


def test_a_truncated_comfyui_prompt_is_recognised() -> None:
    nodes = {str(i): PROMPT["3"] for i in range(9000)}
    text = json.dumps(nodes)
    assert len(text) > 300_000
    assert of(files.png_text(prompt=text)) == claim("ComfyUI")


def test_comfyui_that_loads_a_picture_edits_it() -> None:
    text = json.dumps(PROMPT | {"1": UPSCALE["1"]})
    assert of(files.png_text(prompt=text)) == claim("ComfyUI", "edited")


@pytest.mark.parametrize(
    ("kind", "declares"),
    [
        ("trainedAlgorithmicMedia", "generated"),
        ("compositeWithTrainedAlgorithmicMedia", "edited"),
    ],
)
@pytest.mark.parametrize("as_attribute", [True, False])
def test_iptc_source_types_are_claims(kind: str, declares: str, as_attribute: bool) -> None:
    name = "Iptc4xmpExt:DigitalSourceType"
    packet = (
        files.xmp(f'{name}="{SOURCE}{kind}"')
        if as_attribute
        else files.xmp(children=f"<{name}>{SOURCE}{kind}</{name}>")
    )
    assert of(files.jpeg_xmp(packet), "jpeg") == claim(None, declares)


def test_the_chinese_label_is_a_claim_in_every_place() -> None:
    label = json.dumps(AIGC)
    wrapped = json.dumps({"AIGC": AIGC})
    escaped = label.replace('"', "&quot;")
    comment = b"ASCII\0\0\0" + wrapped.encode()
    for data, format in (
        (files.png_text(AIGC=label), "png"),
        (files.jpeg_xmp(files.xmp(children=f"<TC260:AIGC>{escaped}</TC260:AIGC>")), "jpeg"),
        (files.jpeg_xmp(files.xmp(f'TC260:AIGC="{escaped}"')), "jpeg"),
        (files.image("JPEG", exif_ifd={0x9286: comment}), "jpeg"),
        (samples.mp4(seconds=0.3, tags={"AIGC": label}), "mp4"),
        (files.sound("flac", tags={"AIGC": label}), "flac"),
        (files.sound("mp3", tags={"AIGC": label}), "mp3"),
    ):
        assert of(data, format) == claim("001191110108MA01"), format


def test_the_chinese_label_has_three_degrees() -> None:
    weights = [
        of(files.png_text(AIGC=json.dumps(AIGC | {"Label": degree})))[0] for degree in "1234"
    ]
    assert weights == [Weight.CLAIM, Weight.HINT, Weight.SCORE, Weight.SCORE]


# Hints


@pytest.mark.parametrize(
    ("software", "generator"),
    [
        ("Midjourney", "Midjourney"),
        ("DALL·E 3", "OpenAI"),
        ("gpt-image-1", "OpenAI"),
        ("Adobe Firefly", "Adobe Firefly"),
        ("Ideogram 2.0", "Ideogram"),
        ("Leonardo.Ai", "Leonardo AI"),
        ("Stability AI", "Stable Diffusion"),
        ("Google Imagen", "Google AI"),
        ("Grok", "Grok"),
        ("NovelAI", "NovelAI"),
    ],
)
def test_a_name_in_a_software_field_is_a_hint(software: str, generator: str) -> None:
    assert of(files.image("JPEG", exif={0x0131: software}), "jpeg") == hint(generator)
    assert of(files.png_text(Software=software)) == hint(generator)
    packet = files.xmp(f'xmp:CreatorTool="{software}"')
    assert of(files.jpeg_xmp(packet), "jpeg") == hint(generator)


@pytest.mark.parametrize(
    ("encoder", "generator"),
    [
        ("Sora", "Sora"),
        ("Google Veo 3", "Google AI"),
        ("Runway Gen-4", "Runway"),
        ("Pika Labs", "Pika"),
        ("Kling AI", "Kling"),
        ("Luma AI", "Luma"),
        ("HeyGen", "HeyGen"),
        ("D-ID", "D-ID"),
        ("Synthesia", "Synthesia"),
    ],
)
def test_video_generators(encoder: str, generator: str) -> None:
    data = samples.mp4(seconds=0.1, tags={"software": encoder})
    assert of(data, "mp4") == hint(generator)


@pytest.mark.parametrize("name", ["ElevenLabs", "Suno", "Udio"])
def test_sound_generators(name: str) -> None:
    assert of(files.sound("mp3", tags={"encoded_by": name}), "mp3") == hint(name)
    assert of(files.wav_with_info(ISFT=name), "wav") == hint(name)


@pytest.mark.parametrize("format", ["mp3", "m4a", "flac", "ogg"])
def test_the_fixed_comment_of_suno(format: str) -> None:
    assert of(files.sound(format, tags={"comment": SUNO}), format) == hint("Suno")


def test_credits_of_google() -> None:
    made, changed = "Made with Google AI", "Edited with Google AI"
    packet = files.xmp(f'photoshop:Credit="{made}"')
    assert of(files.jpeg_xmp(packet), "jpeg") == hint("Google AI")
    assert of(files.jpeg_iptc({110: changed}), "jpeg") == hint("Google AI", "edited")


def test_the_signature_of_grok() -> None:
    exif = {0x010E: "Signature: " + "Ab1+" * 30, 0x013B: "0123abcd-0123-4567-89ab-0123456789ab"}
    assert of(files.image("JPEG", exif=exif), "jpeg") == hint("Grok")
    exif[0x013B] = "Jane Doe"
    assert of(files.image("JPEG", exif=exif), "jpeg") == NOTHING


def test_the_ai_system_of_iptc_is_a_hint() -> None:
    packet = files.xmp('Iptc4xmpExt:AISystemUsed="House model 7"')
    assert of(files.jpeg_xmp(packet), "jpeg") == hint("House model 7")


def test_the_strongest_trace_leads_and_the_others_are_listed() -> None:
    data = files.png_text(
        Software="NovelAI", AIGC=json.dumps(AIGC | {"Label": "3"}), Comment=json.dumps(NOVELAI)
    )
    (evidence,) = look(data, "png")
    assert [item["strength"] for item in evidence.details["findings"]] == ["claim", "hint", "note"]


# No false accusations


@pytest.mark.parametrize(
    ("data", "format"),
    [
        (
            files.image("JPEG", exif={0x010E: "Not Stable Diffusion, a real lake! #midjourney"}),
            "jpeg",
        ),
        (files.png_text(Description="I compared this photo with DALL-E and Midjourney v6"), "png"),
        (files.png_text(Title="Firefly at night", Author="Leonardo"), "png"),
        (files.png_text(Comment="Steps: first, boil the water. Sampler: none"), "png"),
        (files.png_text(Comment='{"title": "Steps", "seed": "flowers"}'), "png"),
        (files.png_text(prompt="What is in this picture?"), "png"),
        (files.png_text(workflow='{"name": "Lightroom import", "nodes": 3}'), "png"),
        (files.image("JPEG", exif={0x0131: "Adobe Photoshop 25.0 (with Firefly)"}), "jpeg"),
        (files.image("JPEG", exif={0x0131: "Adobe Photoshop 25.0"}), "jpeg"),
        (files.image("JPEG", exif={0x0131: "HDR+ 1.0.6"}), "jpeg"),
        (files.image("JPEG", exif={0x0131: "Runwayz Kodak Sorano 1.2"}), "jpeg"),
        (files.jpeg_iptc({120: "Made with Google AI was the slogan", 110: "Reuters"}), "jpeg"),
        (files.jpeg_xmp(files.xmp('photoshop:Credit="Photo by Suno Udio"')), "jpeg"),
        (
            files.jpeg_xmp(
                files.xmp(
                    children="<xmpMM:History><rdf:Seq><rdf:li "
                    'stEvt:softwareAgent="Adobe Firefly"/></rdf:Seq></xmpMM:History>'
                )
            ),
            "jpeg",
        ),
        (
            files.jpeg_xmp(files.xmp(f'Iptc4xmpExt:DigitalSourceType="{SOURCE}digitalCapture"')),
            "jpeg",
        ),
        (
            files.jpeg_xmp(files.xmp(f'Iptc4xmpExt:DigitalSourceType="{SOURCE}algorithmicMedia"')),
            "jpeg",
        ),
        (files.sound("mp3", tags={"title": "Suno", "artist": "Udio", "comment": "suno"}), "mp3"),
        (files.wav_with_info(ISFT="Lavf60.16.100"), "wav"),
        (samples.mp4(seconds=0.1, tags={"title": "My Sora holiday", "comment": "Kling!"}), "mp4"),
    ],
)
def test_words_of_people_and_editors_are_no_evidence(data: bytes, format: str) -> None:
    assert of(data, format) == NOTHING


def test_a_workflow_without_a_sampler_is_only_noted() -> None:
    (evidence,) = look(files.png_text(prompt=json.dumps(UPSCALE)), "png")
    assert evidence.weight is Weight.SCORE
    assert evidence.declares is None
    assert "not necessarily generated" in evidence.claim


def test_no_metadata_is_skipped() -> None:
    (evidence,) = look(files.image("PNG"), "png")
    assert (evidence.status, evidence.reason) == (Status.SKIPPED, "no_metadata")
    assert "says nothing" in evidence.claim


def test_no_trace_means_nothing() -> None:
    (evidence,) = look(files.png_text(Title="A lake"), "png")
    assert (evidence.status, evidence.score) == (Status.OK, None)
    assert "means nothing" in evidence.claim


# Cameras


def test_a_camera_original_is_weak_evidence_only() -> None:
    data = files.image("JPEG", exif=CAMERA, exif_ifd=EXPOSURE | {0x927C: b"maker note"})
    first, camera = look(data, "jpeg")
    assert first.weight is Weight.SCORE
    assert camera.details["camera"] == "Canon EOS R5"
    assert camera.details["has_maker_note"] is True
    assert (camera.score, camera.weight, camera.details["strength"]) == (None, Weight.CLAIM, "weak")
    assert not camera.declares_synthesis
    assert "weak evidence" in camera.claim


def test_maker_and_model_without_an_exposure_are_no_camera() -> None:
    assert len(look(files.image("JPEG", exif=CAMERA), "jpeg")) == 1


def test_camera_exif_does_not_hide_a_generator() -> None:
    data = files.image("JPEG", exif=CAMERA | {0x0131: "Midjourney"}, exif_ifd=EXPOSURE)
    first, camera = look(data, "jpeg")
    assert first.weight is Weight.HINT
    assert camera.declares == "capture"


def test_a_phone_video_is_recognised() -> None:
    tags = {"com.apple.quicktime.make": "Apple", "com.apple.quicktime.model": "iPhone 15"}
    _, camera = look(samples.mp4(seconds=0.1, tags=tags), "mp4")
    assert camera.details["camera"] == "Apple iPhone 15"


# How videos were encoded


def encoding(data: bytes, format: str = "mp4") -> dict[str, Any]:
    (evidence,) = look(data, format)
    assert evidence.weight is Weight.SCORE
    return dict(evidence.details["encoding"])


def test_a_general_encoder_shows_only_that_a_file_is_no_original() -> None:
    data = samples.mp4(seconds=0.3)
    found = encoding(data)
    assert found["written_by"][:2] == ["FFmpeg", "x264"]
    assert found["software_encoder"] == "x264"
    assert found["rate"] == "crf=23.0"
    assert found["settings"].startswith("x264 - core")
    assert (found["video_codec"], found["brand"]) == ("h264", "isom")
    (evidence,) = look(data, "mp4")
    assert "shows only that it is no camera original" in evidence.claim


def test_sound_and_times_of_pictures() -> None:
    frames = [scene(64, 48, seed=n) for n in range(8)]
    even = encoding(video_bytes(frames, sound=tone(0.3)))
    assert (even["has_sound"], even["audio_codec"], even["timing"]) == (True, "aac", "constant")
    times = [0.0, 0.04, 0.08, 0.2, 0.24, 0.28, 0.5, 0.54]
    uneven = encoding(video_bytes(frames, seconds=times))
    assert (uneven["has_sound"], uneven["timing"]) == (False, "variable")


@pytest.mark.parametrize("format", ["mov", "webm", "matroska", "avi"])
def test_other_containers(format: str) -> None:
    data = video_bytes([scene(64, 48, seed=n) for n in range(4)], format=format)
    found = encoding(data, {"matroska": "mkv"}.get(format, format))
    assert found["video_codec"] in ("h264", "vp8", "mpeg4")
    assert "FFmpeg" in found["written_by"]


def test_the_encoder_of_a_camera_file_is_no_camera() -> None:
    tags = {"com.android.manufacturer": "Google", "com.android.model": "Pixel 8"}
    _, camera = look(samples.mp4(seconds=0.1, tags=tags), "mp4")
    assert camera.details["camera"] == "Google Pixel 8"
    assert camera.details["strength"] == "contradicted"
    assert "encoded again, or the tags were added" in camera.claim
    assert (camera.score, camera.weight) == (None, Weight.CLAIM)


@pytest.mark.parametrize(
    ("tags", "writers", "devices"),
    [
        ({"encoder": "HandBrake 1.8.1 2024062200"}, ["HandBrake"], []),
        ({"video0:handler_name": "\x1fMainconcept Video Media Handler"}, ["MainConcept"], []),
        ({"video0:handler_name": "Core Media Video"}, ["Apple Core Media"], []),
        ({"video0:handler_name": "\tGoPro AVC"}, [], ["GoPro"]),
        ({"video0:encoder": "DJI.AVC"}, [], ["DJI"]),
        ({"major_brand": "XAVC"}, [], ["Sony"]),
        ({"com.android.version": "14"}, ["Android"], []),
        ({"comment": "vid:v09044g40000c9r3jk3c77u5"}, ["TikTok or CapCut"], []),
        ({"LvMetaInfo": '{"data":{"product":"vicut"},"source_type":"vicut"}'}, ["CapCut"], []),
        ({"encoder": "A film about HandBrake and Lavf"}, [], []),
        ({"title": "HandBrake", "comment": "x264 - core"}, [], []),
    ],
)
def test_programs_and_cameras(tags: dict[str, str], writers: list[str], devices: list[str]) -> None:
    (evidence,) = judge({"tags": tags, "encoding": {"video_codec": "h264"}})
    assert evidence.score is None
    assert evidence.details["encoding"]["written_by"] == writers
    assert evidence.details["encoding"]["devices"] == devices
    told = "no camera original" in evidence.claim
    assert told == bool(set(writers) - {"Android", "Apple Core Media"})


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"aigc_info": '{"aigc_label_type": 2, "source_info": ""}'}, hint("TikTok")),
        ({"aigc_info": '{"aigc_label_type": 0, "source_info": "dreamina"}'}, NOTHING),
        ({"aigc_info": '{"aigc_label_type": 1, "source_info": "dreamina"}'}, hint("Dreamina")),
        (
            {"LvMetaInfo": '{"data": {"product": "dreamina", "exportType": "generation"}}'},
            hint("Dreamina"),
        ),
        (
            {"LvMetaInfo": '{"data": {"product": "vicut", "is_use_ai_video_generation": 1}}'},
            hint("CapCut", "edited"),
        ),
        (
            {"LvMetaInfo": '{"data": {"product": "vicut", "is_use_ai_video_generation": 0}}'},
            NOTHING,
        ),
        ({"aigc_info": "2"}, NOTHING),
        ({"title": '{"aigc_label_type": 2}'}, NOTHING),
        (
            {"comment": '{"type": "WanGP v10.5 by DeepBeepMeep - t2v", "prompt": "a lake"}'},
            claim("WanGP"),
        ),
        ({"comment": '{"type": "WanGP v10.5"}'}, NOTHING),
    ],
)
def test_labels_of_video_services(tags: dict[str, str], expected: tuple[Any, ...]) -> None:
    assert of(samples.mp4(seconds=0.1, tags=tags), "mp4") == expected


def test_the_stream_mark_of_kling() -> None:
    (evidence,) = judge({"encoding": {"video_codec": "h264", "video_user_data": "kling-ai"}})
    assert evidence.weight is Weight.HINT
    assert evidence.details["generator"] == "Kling"


def test_user_data_of_encoders_is_cleaned_and_bounded() -> None:
    hostile = "x264 - core 164\x1b[2J\u202e" + "crf=" * 40_000 + "x" * 100_000
    started = time.process_time()
    (evidence,) = judge(
        {
            "tags": {"major_brand": "\x1b" * 9000, "comment": '"product":' * 30_000},
            "encoding": {"video_codec": "\u202e" * 99, "video_user_data": hostile},
        }
    )
    assert time.process_time() - started < NO_TIME
    text = json.dumps(dict(evidence.details), ensure_ascii=False)
    assert len(text) < 2000
    assert not {"\x1b", "\u202e"} & set(text)
    assert evidence.claim.isprintable()


# Hostile text


def test_names_from_the_file_are_cleaned() -> None:
    software = "Midjourney\u202e\x1b[2J\n<script>" + "x" * 5000
    (evidence,) = look(files.png_text(Software=software), "png")
    for hostile in ("\u202e", "\x1b", "\n"):
        assert hostile not in json.dumps(dict(evidence.details), ensure_ascii=False)
    exif = CAMERA | {0x0110: "EOS\x07\u200f" + "y" * 900}
    camera = look(files.image("JPEG", exif=exif, exif_ifd=EXPOSURE), "jpeg")[1]
    assert len(camera.details["camera"]) < 100


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 50_000,
        "Steps: 1, " * 20_000,
        '"' * 100_000,
        "--v 6 " * 40_000,
        '"class_type": "' * 15_000,
        '{"prompt": {"prompt": ' * 10_000,
        "9" * 200_000,
    ],
)
def test_hostile_parameters_take_no_time(text: str) -> None:
    started = time.process_time()
    for key in ("parameters", "prompt", "Comment", "Dream", "AIGC", "Software"):
        look(files.png_text(**{key: text}), "png")
    assert time.process_time() - started < NO_TIME


def test_tables() -> None:
    assert source_type("cv.iptc.org/x/trainedAlgorithmicMedia/") == "trainedAlgorithmicMedia"
    assert source_type("digsrctype:digitalCapture") == "digitalCapture"
    assert name_of("Lavf60.3.100") is None
    assert aigc_label('{"Label": "7"}') is None
    assert aigc_label("[1]") is None
    assert comfyui_nodes('{"1": {"class_type": "KSampler"}}') is None


def test_through_media() -> None:
    with open_media(files.png_text(parameters=samples.PARAMETERS)) as media:
        (evidence,) = Metadata().analyze(media, None, DetectOptions())
    assert evidence.weight is Weight.CLAIM
    assert Metadata().kinds == set(Kind)
