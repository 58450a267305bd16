"""The page: a drop zone for files of every kind, the options, and the reports."""

from __future__ import annotations

import inspect
import json
import mimetypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import fields
from html import escape
from pathlib import Path
from threading import Event
from typing import Any

import gradio as gr

from deepfake.detector import Detector
from deepfake.errors import Cancelled, DeepfakeError, InternalError, MediaError
from deepfake.faults import contain_faults
from deepfake.media.sniff import EXTENSIONS
from deepfake.reasons import Code
from deepfake.settings import DetectOptions

from .batch import render_row, render_start
from .examination import Examiner, Result, Told, nobody_told
from .limits import MEBIBYTE, PageLimits
from .samples import SAMPLES
from .stops import Stops
from .storage import Uploads
from .uploads import read_options
from .views import render_error, render_invitation, render_stopped
from .waiting import Pace, render_pace

MOST_AT_ONCE = 2
TICK_SECONDS = 0.5
ON_BY_DEFAULT = {"heatmap": True}
"""A page is looked at, so it draws where the evidence lies unless told otherwise."""

INTRODUCTION = """\
<header class="df-title"><h1>Was this generated?</h1>
<p>Choose images, recordings or videos. You get a verdict, how sure it is, and the evidence behind
it. Files are examined on the computer that serves this page, sent nowhere else, and deleted there
once their report is made (a file that is never examined: within 35 minutes).</p></header>"""

Update = tuple[Any, Any]
"""What the handler shows: the progress, and the results."""


def build(
    detector: Detector,
    *,
    uploads: Uploads,
    stops: Stops,
    limits: PageLimits,
    menu: str = "",
    told: Told = nobody_told,
) -> gr.Blocks:
    """Lay the page out over ``detector`` under ``menu``, which is HTML; its API endpoint
    ``/detect`` answers with the JSON. ``told`` is that of :class:`Examiner`.
    """
    folder = Path(__file__).parent
    style, choose, keep_open = (
        (folder / name).read_text(encoding="utf-8")
        for name in ("page.css", "chooser.js", "results.js")
    )
    examiner = Examiner(detector=detector, uploads=uploads, limits=limits, told=told)
    page = gr.Blocks(title="Deepfake", analytics_enabled=False)
    with page:
        _html(f"<style>{style}</style>{menu}{INTRODUCTION}")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                _html(render_chooser(limits), js_on_load=choose)
                button = gr.Button("Examine", variant="primary", elem_id="df-examine")
                stop = gr.Button("Stop", variant="stop", visible=False, elem_id="df-stop")
                with gr.Accordion("Options", open=False):
                    controls = [_control(option) for option in fields(DetectOptions)]
            with gr.Column(scale=3, min_width=300, elem_id="df-result"):
                pace = _html("", elem_id="df-pace")
                shown = _html(render_invitation(), elem_id="df-shown", js_on_load=keep_open)
        sent = gr.JSON(visible=False)
        _at_once(button.click, lambda: gr.Button(visible=True), outputs=stop)
        done = button.click(
            page_handler(examiner, stops),
            inputs=[sent, *controls],
            outputs=[pace, shown],
            js="async (sent, ...options) => [await window.deepfake.sendAll(), ...options]",
            preprocess=False,
            api_visibility="private",
            show_progress="hidden",
            concurrency_id="detect",
            concurrency_limit=MOST_AT_ONCE,
        )
        _at_once(
            done.then,
            lambda: gr.Button(visible=False),
            outputs=stop,
            js="() => (window.deepfake.finish(), [])",
        )
        _at_once(stop.click, stop_handler(stops), js="() => (window.deepfake.stop(), [])")
        page.unload(leave_handler(stops, uploads))
        gr.Button(visible=False).click(
            api_handler(examiner),
            inputs=[gr.File(visible=False), *controls],
            outputs=gr.Textbox(label="Report", visible=False),
            preprocess=False,
            api_name="detect",
            concurrency_id="detect",
            concurrency_limit=MOST_AT_ONCE,
        )
    page.queue(max_size=limits.queued, default_concurrency_limit=MOST_AT_ONCE)
    return page


def render_chooser(limits: PageLimits) -> str:
    """The drop zone, which ``chooser.js`` brings to life, and files to try."""
    examples = " ".join(
        f'<button type="button" data-example="{sample.name}">{escape(sample.label)}</button>'
        for sample in SAMPLES
    )
    most = f"{limits.upload_bytes / MEBIBYTE:.0f} MB"
    return (
        f'<div class="df-chooser" data-files="{limits.files}" data-bytes="{limits.upload_bytes}">'
        '<label class="df-drop" for="df-files" tabindex="0" role="button"><strong>Choose files'
        "</strong> or drop them here"
        f"<small>Images, sound and videos; up to {limits.files} at once, {most} each</small>"
        "</label>"
        f'<input type="file" id="df-files" multiple tabindex="-1" accept="{accepted_types()}" '
        'aria-label="Image, sound or video">'
        '<ul class="df-chosen" aria-label="Chosen files"></ul><div class="df-preview"></div>'
        '<p class="df-status" role="status"></p>'
        f'<p class="df-examples"><span>No file at hand? Try:</span> {examples}</p></div>'
    )


def accepted_types() -> str:
    """The value of ``accept``: extensions and media types of every format that is read."""
    extensions = sorted({f".{name}" for names in EXTENSIONS.values() for name in names})
    guessed = {mimetypes.guess_type(f"a{extension}")[0] for extension in extensions}
    kinds = sorted(kind for kind in guessed if kind and kind.split("/")[0] in KINDS)
    return ",".join([*extensions, *kinds])


KINDS = ("image", "audio", "video")


def page_handler(examiner: Examiner, stops: Stops) -> Callable[..., Iterator[Update]]:
    """The handler of the button: uploads and the options in, progress and results out.

    Whatever happens, nothing of the uploads stays.
    """

    def examine(
        sent: Sequence[Mapping[str, Any]] | None, request: gr.Request, *values: Any
    ) -> Iterator[Update]:
        everything = [dict(file) for file in sent or () if isinstance(file, Mapping)]
        files = everything[: examiner.limits.files]
        try:
            if not files:
                raise MediaError("page: no file was chosen", code=Code.NO_FILE, hint="choose one")
            options = read_options(values)
            with stops.working(str(request.session_hash)) as cancel:
                yield from _examine_all(examiner, files, options, cancel)
        except DeepfakeError as error:
            yield "", render_error(error)
        finally:
            examiner.uploads.drop([str(file.get("path", "")) for file in everything])

    return examine


def _examine_all(
    examiner: Examiner, files: list[dict[str, Any]], options: DetectOptions, cancel: Event
) -> Iterator[Update]:
    """Each file in turn; the results of several become a list that grows."""
    several = len(files) > 1
    page = render_start(len(files)) if several else ""
    yield "", page
    for place, file in enumerate(files):
        pace = Pace()
        with ThreadPoolExecutor(1, thread_name_prefix="examination") as pool:
            work = pool.submit(
                examiner.examine, file, options, progress=pace.tell, cancel=cancel, place=place
            )
            try:
                while not wait([work], timeout=TICK_SECONDS).done:
                    name = str(file.get("name", ""))
                    yield render_pace(pace, place=place, files=len(files), name=name), gr.skip()
            finally:
                if not work.done():  # nobody listens any more
                    cancel.set()
        page += _page_of(work, several=several)
        yield "", page
        if cancel.is_set():
            return


def _page_of(work: Future[Result], *, several: bool) -> str:
    try:
        result = work.result()
    except Cancelled:
        return render_stopped()
    return render_row(result.name, result.page, report=result.report) if several else result.page


def stop_handler(stops: Stops) -> Callable[[gr.Request], None]:
    """The handler that ends what the visitor has in work."""

    def stop(request: gr.Request) -> None:
        stops.stop(str(request.session_hash))

    return stop


def leave_handler(stops: Stops, uploads: Uploads) -> Callable[[gr.Request], None]:
    """The handler of a visitor who leaves: nothing of theirs goes on or stays."""

    def leave(request: gr.Request) -> None:
        stops.stop(str(request.session_hash))
        uploads.forget(str(request.session_hash))

    return leave


def api_handler(examiner: Examiner) -> Callable[..., str]:
    """The handler of the API: the report as JSON text, errors as gradio's ``Error``.

    Text, because gradio's client takes an object with a ``path`` for a file to fetch.
    """

    def detect(file: Mapping[str, Any] | None, *values: Any) -> str:
        path = str((file or {}).get("path", ""))
        try:
            if not path:
                raise MediaError(
                    "upload: no file was chosen", code=Code.NO_FILE, hint="send a file"
                )
            options = read_options(values)
            name = str((file or {}).get("orig_name") or "upload")
            with contain_faults("upload"), examiner.uploads.claimed(path, name=name) as upload:
                report = examiner.report_on(upload, options, watch=examiner.watch())
        except InternalError as error:  # a visitor gets a sentence, the log the rest
            text = f"the page made a mistake; in its log it has the id {error.fault_id}"
            raise gr.Error(text, print_exception=False) from None
        except DeepfakeError as error:
            raise gr.Error(str(error), print_exception=False) from error
        finally:
            examiner.uploads.drop([path])
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


def _at_once(
    event: Callable[..., Any],
    handler: Callable[..., Any],
    outputs: Any = None,
    *,
    js: str | None = None,
) -> None:
    """Answer a small event without waiting in the queue."""
    event(
        handler,
        outputs=outputs,
        js=js,
        queue=False,
        show_progress="hidden",
        api_visibility="private",
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
    if choices := option.metadata.get("choices"):
        return gr.Radio(list(choices), value=default, label=label, info=text)
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
