"""Endpoints about the service itself."""

from __future__ import annotations

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, Response

from deepfake.version import VERSION

from .access import AnyKey, MayMeasure, ServiceHere
from .shapes import Health, ModelAnswer, ModelsAnswer, Readiness
from .wording import answer

router = APIRouter(tags=["status"])


@router.get("/v1/models", response_model=ModelsAnswer)
async def list_models(service: ServiceHere, identity: AnyKey) -> Response:
    """The models that judge here."""
    active = service.detector.engine.active
    models = [
        ModelAnswer(
            slot=slot,
            name=bundle.name,
            kind=bundle.kind.value,
            network=bundle.network,
            licence=bundle.licence,
            sha256=bundle.sha256,
        )
        for slot, bundle in sorted(active.items())
    ]
    return answer(ModelsAnswer(version=VERSION, models=models))


@router.get("/healthz", response_model=Health)
async def tell_health() -> Response:
    """Whether the process answers; it should be started anew when it does not."""
    return answer(Health())


@router.get("/readyz", response_model=Readiness)
async def tell_readiness(service: ServiceHere) -> Response:
    """Whether requests can be answered: models, database, disk."""
    return answer(Readiness(checks=await run_in_threadpool(service.check)))


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def measure(service: ServiceHere, identity: MayMeasure) -> Response:
    """Measurements for Prometheus, of all tenants together."""
    text = await run_in_threadpool(service.metrics.render)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
