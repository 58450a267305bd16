"""The JSON of the interface: what it takes beside media, and what it answers."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, create_model

from deepfake.schema import REPORT_SCHEMA
from deepfake.settings import DetectOptions

from ..store.keys import Policy
from ..store.tables import DeliveryState, Event, Ruling, State

JOB_ID = r"^job_[0-9a-f]{32}$"
REPORT_ID = r"^rep_[0-9a-f]{32}$"
BATCH_ID = r"^bat_[0-9a-f]{32}$"
WEBHOOK_ID = r"^whk_[0-9a-f]{32}$"
MESSAGE_ID = r"^msg_[0-9a-f]{32}$"
_EXAMPLE_ID = "0123456789abcdef0123456789abcdef"
Time = Annotated[
    str,
    Field(
        description="in UTC",
        examples=["2026-03-01T09:30:00.000Z"],
        json_schema_extra={"format": "date-time"},
    ),
]
ReportJson = Annotated[
    dict[str, Any],
    WithJsonSchema({key: value for key, value in REPORT_SCHEMA.items() if key != "$schema"}),
]


class _Options(BaseModel):
    """What every request to examine may ask."""

    name: str = Field(
        "", max_length=200, description="what the file is called, of a body that is no form"
    )
    priority: int = Field(5, ge=0, le=9, description="of a job; the highest are examined first")

    def chosen(self) -> DetectOptions:
        """The detection options alone."""
        names = {option.name for option in fields(DetectOptions)}
        return DetectOptions(**self.model_dump(include=names))


def _describe(option: Any) -> tuple[Any, Any]:
    """The parameter of one field of ``DetectOptions``."""
    text, default = option.metadata["help"], option.default
    if choices := option.metadata.get("choices"):
        return Literal[choices], Field(default, description=text)
    if isinstance(default, bool):
        return bool, Field(default, description=text)
    return type(default), Field(
        default,
        description=text,
        ge=option.metadata["minimum"],
        le=option.metadata["maximum"],
        allow_inf_nan=False,
    )


if TYPE_CHECKING:
    Options = _Options
else:
    Options = create_model(
        "Options",
        __base__=_Options,
        **{option.name: _describe(option) for option in fields(DetectOptions)},
    )
    """The query of a request to examine: ``name``, ``priority``, all of ``DetectOptions``."""


class MediaAddress(BaseModel):
    """Where the service, if it fetches at all, gets a file instead of being sent it."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(max_length=2000, examples=["https://media.example/photo.jpg"])


class ReportAnswer(BaseModel):
    """A report as the key may see it."""

    id: str = Field(pattern=REPORT_ID, examples=[f"rep_{_EXAMPLE_ID}"])
    created: Time
    policy: Policy = Field(description="how much of the report the key sees")
    job: str | None = Field(None, description="the job that it is of", examples=[None])
    revised: str | None = Field(
        None, description="the report by newer models that took its place", examples=[None]
    )
    report: ReportJson


class JobError(BaseModel):
    """Why an attempt failed."""

    code: str = Field(examples=["corrupt"])
    detail: str = Field(examples=["file a.jpg: cannot be decoded"])
    remedy: str = Field("", examples=["Ask for the original, or export the file again."])


class JobAnswer(BaseModel):
    """A job. *failed*: the file is the problem; *dead*: anything else, after every attempt."""

    id: str = Field(pattern=JOB_ID, examples=[f"job_{_EXAMPLE_ID}"])
    state: State
    name: str = Field(description="of the file", examples=["photo.jpg"])
    bytes: int = Field(ge=0, examples=[63000])
    batch: str | None = Field(None, examples=[None])
    priority: int = Field(ge=0, le=9)
    attempts: int = Field(ge=0, description="how often it was begun", examples=[1])
    created: Time
    started: Time | None = None
    ended: Time | None = None
    progress: float = Field(0.0, ge=0, le=1, description="the share that is done", examples=[1.0])
    step: str = Field("", description="what is being done", examples=[""])
    report: str | None = Field(None, description="its id", examples=[f"rep_{_EXAMPLE_ID}"])
    error: JobError | None = Field(None, examples=[None])


class JobsPage(BaseModel):
    """Jobs, the newest first. ``next`` is the cursor of those that follow, if there are any."""

    jobs: list[JobAnswer]
    next: str | None = Field(None, examples=["MTIz"])


class BatchAnswer(BaseModel):
    """A job for each file of a batch, in their order."""

    id: str = Field(pattern=BATCH_ID, examples=[f"bat_{_EXAMPLE_ID}"])
    jobs: list[JobAnswer]


class FeedbackRequest(BaseModel):
    """A moderator's ruling on a report."""

    model_config = ConfigDict(extra="forbid")

    report: str = Field(pattern=REPORT_ID, examples=[f"rep_{_EXAMPLE_ID}"])
    ruling: Ruling = Field(description="whether the verdict was right", examples=["confirm"])
    note: str = Field("", max_length=2000, examples=["The original was found."])


class FeedbackAnswer(FeedbackRequest):
    """A ruling that was kept."""

    id: str = Field(examples=[f"fbk_{_EXAMPLE_ID}"])
    created: Time


class WebhookRequest(BaseModel):
    """An address to tell of events, which others can reach and which has a certificate."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(
        max_length=2000, pattern="^https?://", examples=["https://shop.example/deepfake"]
    )
    events: list[Event] = Field(min_length=1, max_length=len(Event), examples=[["job.done"]])


class WebhookAnswer(BaseModel):
    """A webhook; one whose address answered 410 is *gone* and is told nothing more."""

    id: str = Field(pattern=WEBHOOK_ID, examples=[f"whk_{_EXAMPLE_ID}"])
    created: Time
    url: str = Field(examples=["https://shop.example/deepfake"])
    events: list[Event] = Field(examples=[["job.done"]])
    gone: Time | None = None


class NewWebhookAnswer(WebhookAnswer):
    """A webhook with a new secret, which is shown this once."""

    secret: str = Field(description="of its signatures", examples=["whsec_MDEyMw=="])


class WebhooksAnswer(BaseModel):
    """The webhooks of the key's tenant, the oldest first."""

    webhooks: list[WebhookAnswer]


class RotateRequest(BaseModel):
    """How long the secret of before signs beside the new one."""

    model_config = ConfigDict(extra="forbid")

    overlap_hours: float = Field(24.0, ge=0, le=8760, strict=True, examples=[24.0])


class DeliveryAnswer(BaseModel):
    """One event on its way; *dead* after every try. ``id`` is its ``webhook-id``."""

    id: str = Field(pattern=MESSAGE_ID, examples=[f"msg_{_EXAMPLE_ID}"])
    event: Event
    state: DeliveryState
    tries: int = Field(ge=0, examples=[1])
    created: Time
    due: Time | None = Field(None, description="of the next try")
    ended: Time | None = None
    status: int | None = Field(None, description="of the last answer", examples=[204])
    error: str | None = Field(None, description="why the last try failed", examples=[None])


class DeliveriesPage(BaseModel):
    """Deliveries, the newest first. ``next`` is the cursor of those that follow, if any do."""

    deliveries: list[DeliveryAnswer]
    next: str | None = Field(None, examples=["MTIz"])


class ModelAnswer(BaseModel):
    """A model that judges here."""

    slot: str = Field(examples=["image"])
    name: str = Field(examples=["image-3"])
    kind: str = Field(description="of the media that it judges", examples=["image"])
    network: str
    licence: str = Field(examples=["Apache-2.0"])
    sha256: str = Field(description="of the whole bundle, its calibration included")


class ModelsAnswer(BaseModel):
    """What reports of this service rest on."""

    version: str = Field(description="of deepfake", examples=["0.1.0"])
    models: list[ModelAnswer]


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Whether requests can be answered, by part."""

    status: Literal["ready"] = "ready"
    checks: dict[str, str] = Field(examples=[{"database": "ok", "models": "ok", "disk": "ok"}])
