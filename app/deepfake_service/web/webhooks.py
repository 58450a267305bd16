"""Endpoints of webhooks: who is told of events, and what became of each message."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from ..store.tables import DeliveryState
from .access import MayTell, ServiceHere
from .pages import Cursor, Limit, read_cursor, write_cursor
from .shapes import (
    MESSAGE_ID,
    WEBHOOK_ID,
    DeliveriesPage,
    DeliveryAnswer,
    NewWebhookAnswer,
    RotateRequest,
    WebhookAnswer,
    WebhookRequest,
    WebhooksAnswer,
)
from .wording import answer, word_delivery, word_new_webhook, word_webhook

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])
WebhookId = Annotated[str, Path(pattern=WEBHOOK_ID)]


@router.post("", response_model=NewWebhookAnswer, status_code=201)
async def add_webhook(service: ServiceHere, identity: MayTell, asked: WebhookRequest) -> Response:
    """Register an address. The secret of its signatures is shown this once."""
    service.guard.read(asked.url)
    row, secret = await run_in_threadpool(
        lambda: service.webhooks.add(identity.tenant, asked.url, set(asked.events))
    )
    said = word_new_webhook(row, secret)
    return answer(said, 201, Location=f"/v1/webhooks/{row.id}")


@router.get("", response_model=WebhooksAnswer)
async def list_webhooks(service: ServiceHere, identity: MayTell) -> Response:
    """The webhooks of the key's tenant, the oldest first."""
    rows = await run_in_threadpool(lambda: service.webhooks.known(identity.tenant))
    return answer(WebhooksAnswer(webhooks=[word_webhook(row) for row in rows]))


@router.get("/{webhook}", response_model=WebhookAnswer)
async def read_webhook(service: ServiceHere, identity: MayTell, webhook: WebhookId) -> Response:
    """One webhook."""
    row = await run_in_threadpool(lambda: service.webhooks.find(identity.tenant, webhook))
    return answer(word_webhook(row))


@router.delete("/{webhook}", response_model=WebhookAnswer)
async def remove_webhook(service: ServiceHere, identity: MayTell, webhook: WebhookId) -> Response:
    """Delete a webhook, with its messages, also those that wait."""
    row = await run_in_threadpool(lambda: service.webhooks.remove(identity.tenant, webhook))
    return answer(word_webhook(row))


@router.post("/{webhook}/secret", response_model=NewWebhookAnswer, status_code=201)
async def rotate_secret(
    service: ServiceHere, identity: MayTell, webhook: WebhookId, asked: RotateRequest
) -> Response:
    """Make a new secret. The one before signs beside it for a while, so that none is missed."""
    row, secret = await run_in_threadpool(
        lambda: service.webhooks.rotate(identity.tenant, webhook, overlap_hours=asked.overlap_hours)
    )
    return answer(word_new_webhook(row, secret), 201)


@router.get("/{webhook}/deliveries", response_model=DeliveriesPage)
async def list_deliveries(
    *,
    service: ServiceHere,
    identity: MayTell,
    webhook: WebhookId,
    state: Annotated[DeliveryState | None, Query(description="only those in this state")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """What was sent to a webhook, waits, or is dead; the newest first."""
    before = None if cursor is None else read_cursor(cursor)
    rows = await run_in_threadpool(
        lambda: service.webhooks.deliveries(
            identity.tenant, webhook, state=state, before=before, most=limit + 1
        )
    )
    more = len(rows) > limit
    rows = rows[:limit]
    return answer(
        DeliveriesPage(
            deliveries=[word_delivery(row) for row in rows],
            next=write_cursor(rows[-1].number) if more else None,
        )
    )


@router.post(
    "/{webhook}/deliveries/{message}/retry", response_model=DeliveryAnswer, status_code=202
)
async def retry_delivery(
    service: ServiceHere,
    identity: MayTell,
    webhook: WebhookId,
    message: Annotated[str, Path(pattern=MESSAGE_ID)],
) -> Response:
    """Send a dead message again, under its id of before."""
    row = await run_in_threadpool(lambda: service.webhooks.retry(identity.tenant, webhook, message))
    return answer(word_delivery(row), 202)
