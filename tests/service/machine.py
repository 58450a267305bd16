"""A server or a worker as a process of its own, for tests that kill it.

    python -m tests.service.machine serve|work MODELS FOLDER DATABASE MEDIA

Leases are short, so that what a dead process had is soon in line again.
"""

from __future__ import annotations

import sys
from pathlib import Path

from deepfake_app import prepare
from deepfake_service.settings import ServiceSettings

from deepfake.detector import Detector
from deepfake.settings import Settings

LEASE_SECONDS = 2.0


def main(task: str, models: str, folder: str, database: str, media: str) -> None:
    settings = ServiceSettings(
        folder=Path(folder),
        database_url=database,
        media_url=media,
        lease_seconds=LEASE_SECONDS,
        attempts=100,
        back_off_seconds=0.1,
        workers=0 if task == "serve" else 1,
    )
    with Detector(Settings(models_folder=Path(models), threads=1)) as detector:
        if task == "work":
            from deepfake_service.worker import work

            work(detector, settings)
        else:
            prepare()
            from deepfake_app.server import wait_for_the_end
            from deepfake_service.serving import running

            with running(detector, host="127.0.0.1", port=0, settings=settings) as address:
                wait_for_the_end(f"{address}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
