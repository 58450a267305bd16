"""What the decoder process is asked about traces; see :mod:`deepfake.media.worker`."""

from __future__ import annotations

from typing import Any

from ..media.job import Job
from .containers import read_metadata
from .manifests import read_manifest


def metadata(job: Job, *, format: str) -> dict[str, Any]:
    """The ``result`` of :func:`read_metadata`."""
    limit_bytes = job.limits.metadata_bytes
    return {"result": read_metadata(job.buffered(), format=format, limit_bytes=limit_bytes)}


def manifest(job: Job, *, format: str, trust_anchors: str | None) -> dict[str, Any]:
    """The ``result`` of :func:`read_manifest`."""
    return {"result": read_manifest(job.buffered(), format=format, trust_anchors=trust_anchors)}
