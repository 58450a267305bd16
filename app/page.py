"""The page: one drop zone for every kind of file, the options, and the report."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import gradio as gr

from deepfake.detector import Detector
from deepfake.errors import Cancelled, DeepfakeError, TimeLimit
from deepfake.faults import contain_faults
from deepfake.preprocess import Pixels
from deepfake.progress import deadline_after
from deepfake.settings import DetectOptions
from deepfake.types import Report

from .pictures import Shown, draw_pictures
from .stops import Stops
from .uploads import Upload, claimed, read_options
from .views import render_error, render_invitation, render_report, render_stopped

MOST_AT_ONCE = 2
CACHE_CHECK_SECONDS, CACHE_AGE_SECONDS = 300, 1800
ON_BY_DEFAULT = {"heatmap": True}
"""A page is looked at, so it draws where the evidence lies unless told otherwise."""

INTRODUCTION = """\
<header class="df-title"><h1>Was this generated?</h1>
<p>Choose an image, a recording or a video. You get a verdict, how sure it is, and the evidence
behind it. Files are examined on the computer that serves this page, sent nowhere else, and deleted
once their report is made (a file that is never examined, and frames that were shown: within 35
minutes).</p></header>"""


def build(detector: Detector) -> gr.Blocks:
    """Lay the page out over ``detector``; its API endpoint ``/detect`` answers with the JSON."""
    folder = Path(__file__).parent
    style = (folder / "page.css").read_text(encoding="utf-8")
    show_preview = (folder / "preview.js").read_text(encoding="utf-8")
    stops = Stops()
    page = gr.Blocks(
        title="Deepfake",
        analytics_enabled=False,
        delete_cache=(CACHE_CHECK_SECONDS, CACHE_AGE_SECONDS),
    )
    with page:
        _html(f"<style>{style}</style>{INTRODUCTION}")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                file = gr.File(label="Image, sound or video", elem_id="df-file", height=180)
                _html('<div id="df-preview" hidden></div>')
                button = gr.Button("Examine", variant="primary", elem_id="df-examine")
                stop = gr.Button("Stop", variant="stop", visible=False, elem_id="df-stop")
                with gr.Accordion("Options", open=False):
                    controls = [_control(option) for option in fields(DetectOptions)]
                tiles = _gallery()
            with gr.Column(scale=3, min_width=300):
                shown = _html(
                    render_invitation(),
                    elem_id="df-result",
                    js_on_load="element.setAttribute('aria-live', 'polite')",
                )
        _at_once(button.click, lambda: gr.Button(visible=True), outputs=stop)
        done = button.click(
            page_handler(detector, stops),
            inputs=[file, *controls],
            outputs=[shown, file, tiles],
            preprocess=False,
            api_visibility="private",
            show_progress_on=shown,
            scroll_to_output=True,
            concurrency_id="detect",
            concurrency_limit=MOST_AT_ONCE,
        )
        _at_once(done.then, lambda: gr.Button(visible=False), outputs=stop)
        _at_once(stop.click, stop_handler(stops))
        page.unload(stop_handler(stops))
        for event in (file.upload, file.clear):
            event(None, inputs=file, outputs=shown, js=show_preview, api_visibility="private")
            _at_once(event, lambda: show_tiles(()), outputs=tiles)
        answer = gr.Textbox(label="Report", visible=False)
        gr.Button(visible=False).click(
            api_handler(detector),
            inputs=[file, *controls],
            outputs=answer,
            preprocess=False,
            api_name="detect",
            concurrency_id="detect",
            concurrency_limit=MOST_AT_ONCE,
        )
    page.queue(max_size=32, default_concurrency_limit=MOST_AT_ONCE)
    return page


def page_handler(detector: Detector, stops: Stops) -> Callable[..., tuple[str, Any, Any]]:
    """The handler of the button: an upload and the options in; HTML, an empty drop zone and the
    tiles of a video out.

    An option that does not fit leaves the upload where it is.
    """

    def examine(
        sent: Mapping[str, Any] | None,
        request: gr.Request,
        progress: Any = gr.Progress(),  # noqa: B008 (how gradio knows whom to tell)
        *values: Any,
    ) -> tuple[str, Any, Any]:
        nothing = show_tiles(())
        try:
            options = read_options(values)
        except DeepfakeError as error:
            return render_error(error), gr.skip(), nothing
        try:
            with claimed(sent) as upload, stops.working(str(request.session_hash)) as cancel:
                with contain_faults(upload.name):
                    report = detector.detect(
                        upload.path,
                        options,
                        name=upload.name,
                        progress=lambda share, text: progress(share, desc=text),
                        cancel=cancel,
                        deadline=deadline_after(detector.settings.file_seconds),
                    )
                seen, note = _pictures_or_note(detector, upload, report)
        except TimeLimit as error:
            return render_error(error), None, nothing
        except Cancelled:
            return render_stopped(), None, nothing
        except DeepfakeError as error:
            return render_error(error), None, nothing
        page = render_report(report, pictures=seen.pictures, note=note)
        return page, None, show_tiles(seen.tiles)

    return examine


def stop_handler(stops: Stops) -> Callable[[gr.Request], None]:
    """The handler that ends what the visitor has in work."""

    def stop(request: gr.Request) -> None:
        stops.stop(str(request.session_hash))

    return stop


def show_tiles(tiles: tuple[tuple[Pixels, str], ...]) -> Any:
    """The update of the gallery, which is there only when it has something to show."""
    return gr.update(value=list(tiles), visible=bool(tiles))


def _pictures_or_note(detector: Detector, upload: Upload, report: Report) -> tuple[Shown, str]:
    try:
        with contain_faults(upload.name):
            return draw_pictures(upload.path, report, limits=detector.settings.limits), ""
    except DeepfakeError as error:
        return Shown(), f"What was scored could not be drawn: {error}"


def api_handler(detector: Detector) -> Callable[..., str]:
    """The handler of the API: the report as JSON text, errors as gradio's ``Error``.

    Text, because gradio's client takes an object with a ``path`` for a file to fetch.
    """

    def detect(file: Mapping[str, Any] | None, *values: Any) -> str:
        try:
            with claimed(file) as upload, contain_faults(upload.name):
                report = detector.detect(
                    upload.path,
                    read_options(values),
                    name=upload.name,
                    deadline=deadline_after(detector.settings.file_seconds),
                )
        except DeepfakeError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return json.dumps(report.to_dict())

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    options = [
        inspect.Parameter(option.name, kind, default=option.default)
        for option in fields(DetectOptions)
    ]
    detect.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter("file", kind), *options]
    )
    return detect


def _at_once(event: Callable[..., Any], handler: Callable[..., Any], outputs: Any = None) -> None:
    """Answer a small event without waiting in the queue."""
    event(handler, outputs=outputs, queue=False, show_progress="hidden", api_visibility="private")


def _gallery() -> gr.Gallery:
    return gr.Gallery(
        label="The most telling frames",
        visible=False,
        format="jpeg",
        columns=2,
        height="auto",
        object_fit="contain",
        interactive=False,
        buttons=["fullscreen", "download"],
        elem_id="df-tiles",
    )


def _html(value: str, *, js_on_load: str | None = None, **settings: Any) -> gr.HTML:
    return gr.HTML(value, padding=False, apply_default_css=False, js_on_load=js_on_load, **settings)


def _control(option: Any) -> Any:
    """The control of one field of ``DetectOptions``."""
    label = option.name.replace("_", " ").capitalize()
    text = option.metadata["help"].capitalize()
    default = ON_BY_DEFAULT.get(option.name, option.default)
    if isinstance(option.default, bool):
        return gr.Checkbox(default, label=label, info=text)
    low, high = option.metadata["minimum"], option.metadata["maximum"]
    whole = isinstance(option.default, int)
    return gr.Number(
        default,
        label=label,
        info=f"{text} ({low:g} to {high:g})",
        minimum=low,
        maximum=high,
        precision=0 if whole else None,
        step=1 if high > 1 else 0.05,
    )
