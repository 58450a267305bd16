"""Threads of this process that send events to webhooks."""

from __future__ import annotations

import logging
import threading
import time

from deepfake.errors import DeepfakeError, ServiceError
from deepfake.faults import contain_faults, internal_error
from deepfake.text import printable
from deepfake.webhooks import sign

from ..store.webhooks import Sending, Webhooks
from .addresses import Guard
from .exchange import FAILURES, exchange

LOG = logging.getLogger("deepfake_service")
SECONDS = 15.0
LEASE_SECONDS = 60.0
POLL_SECONDS = 0.5
AGAIN_SECONDS = 1.0
STOP_SECONDS = SECONDS + 5.0
MOST_ANSWER_BYTES = 65_536


class Deliverer:
    """Sends what is due, to each webhook one after the other; use it as a context manager.

    A redirect is a failure: the address that was registered is the one that is told.
    """

    def __init__(self, webhooks: Webhooks, guard: Guard, *, threads: int) -> None:
        self._webhooks, self._guard = webhooks, guard
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._busy: set[int] = set()
        self._threads = [
            threading.Thread(target=self._work, name=f"deliverer-{number}", daemon=True)
            for number in range(threads)
        ]

    def __enter__(self) -> Deliverer:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        until = time.monotonic() + STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                self._deliver()
            except ServiceError:
                self._stop.wait(AGAIN_SECONDS)  # the database is away
            except Exception as fault:  # noqa: BLE001 (a bug must not end the thread)
                internal_error("webhook", fault)
                self._stop.wait(AGAIN_SECONDS)

    def _deliver(self) -> None:
        """Try one delivery, as soon as there is any."""
        sending = self._take()
        if sending is None:
            return
        try:
            status, error = self._send(sending)
            self._settle(sending, status, error)
        finally:
            self._busy.discard(sending.webhook.number)

    def _take(self) -> Sending | None:
        """The next delivery; None at the end. One thread at a time looks for it."""
        with self._lock:
            while not self._stop.is_set():
                busy = frozenset(self._busy)
                sending = self._webhooks.take(busy=busy, lease_seconds=LEASE_SECONDS)
                if sending is not None:
                    self._busy.add(sending.webhook.number)
                    return sending
                self._stop.wait(POLL_SECONDS)
        return None

    def _settle(self, sending: Sending, status: int | None, error: str | None) -> None:
        """Note the outcome; while the database is away it is offered again, until the lease ends
        and the message is sent anew.
        """
        until = time.monotonic() + LEASE_SECONDS - SECONDS
        while True:
            try:
                self._webhooks.settle(sending.delivery, status=status, error=error)
            except ServiceError:
                if time.monotonic() > until or self._stop.wait(AGAIN_SECONDS):
                    raise
            else:
                return

    def _send(self, sending: Sending) -> tuple[int | None, str | None]:
        """The status of the answer, and why the delivery failed, if it did."""
        delivery, body = sending.delivery, sending.delivery.body.encode()
        if not sending.secrets:
            return None, "its secret was sealed with another hash.key; rotate it"
        timestamp = int(time.time())
        signatures = [
            sign(secret, id=delivery.id, timestamp=timestamp, body=body)
            for secret in sending.secrets
        ]
        headers = {
            "Content-Type": "application/json",
            "webhook-id": delivery.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(signatures),
        }
        try:
            with contain_faults("webhook"):
                status = self._post(sending.webhook.url, headers, body)
        except DeepfakeError as error:
            return None, printable(str(error))
        if status is None:
            return None, "it does not answer, or not in time"
        return status, None if 200 <= status < 300 else f"it answers {status}"

    def _post(self, url: str, headers: dict[str, str], body: bytes) -> int | None:
        """The status of the answer; None where there is none in time."""
        target = self._guard.read(url)
        try:
            with exchange(
                self._guard, target, method="POST", headers=headers, body=body, seconds=SECONDS
            ) as answer:
                size = 0
                for chunk in answer.iter_stream():
                    size += len(chunk)
                    if size > MOST_ANSWER_BYTES:
                        break
                return answer.status
        except FAILURES as error:
            LOG.info("webhook: %s", printable(str(error) or type(error).__name__))
            return None
