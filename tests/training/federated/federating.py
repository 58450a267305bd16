"""A federation of planted sites, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deepfake_training.federated.federation import Federation
from deepfake_training.federated.site import Site
from deepfake_training.federated.terms import Terms

from tests.training.planted import planted_samples

FEATURES = 12
SITES = ("east", "north", "south", "west")


def make_terms(**changes: Any) -> Terms:
    given = {"slot": "image", "bundle_sha256": "0" * 64, "features": FEATURES, "start": "fresh"}
    return Terms(**{**given, "rule": "median", "rounds": 4, "steps": 3, **changes})


def make_site(number: int, terms: Terms, **changes: Any) -> Site:
    return Site(planted_samples(60, FEATURES, seed=10 + number), terms, **changes)


def make_federation(folder: Path, terms: Terms | None = None, **changes: Any) -> Federation:
    given: dict[str, Any] = {"least": 3, "wait_seconds": 5.0, "folder": folder, **changes}
    return Federation(terms or make_terms(), given.pop("sites", SITES), **given)
