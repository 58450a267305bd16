"""Jobs in line: added, taken by workers, ended once.

A worker takes a job as one *attempt*, and ends it only while that attempt is still the present one
and the job is still running. So a job may be examined more than once (at least once, whatever
dies), and has one report at most.

Workers of many machines take jobs of one PostgreSQL side by side (``SKIP LOCKED``). Each holds a
job for a lease, which it renews; one that falls silent loses it. This table is the queue, rather
than a queue beside it such as procrastinate's, because the report, the end of its job, its count
and its events must be one transaction, and because the same table serves SQLite.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Select, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from deepfake.errors import ServiceError
from deepfake.reasons import Code
from deepfake.types import Report

from ..sealing import Unopened
from .database import PUT_OFF_MS, Database, moment
from .keys import Identity
from .reports import add_report
from .tables import ENDED, HOLDING, Event, Job, State, new_id
from .webhooks import announce

LOG = logging.getLogger("deepfake_service")
TRIES = 3
TRY_SECONDS = 0.3
LONGEST_BACK_OFF_SECONDS = 3600.0


@dataclass(frozen=True)
class Wanted:
    """A file to examine: what it is called, how large it is, where it lies, its ``sha256``, and the
    ``id`` of the job that it becomes.
    """

    name: str
    bytes: int
    media: str
    sha256: str
    id: str = field(default_factory=lambda: new_id("job"))


class Place(NamedTuple):
    """How far an attempt at a job is: the share that is done, and what is being done."""

    attempt: int
    share: float
    step: str


class Jobs:
    """The jobs in ``database``. ``added`` is called after some were put in line.

    Whoever takes a job has it for ``lease_seconds``, and again from each :meth:`renew`.
    """

    def __init__(
        self,
        database: Database,
        *,
        attempts: int,
        back_off_seconds: float,
        lease_seconds: float = 30.0,
    ) -> None:
        self._database = database
        self._attempts, self._back_off_seconds = attempts, back_off_seconds
        self._lease_ms = round(lease_seconds * 1000)
        self.added: Callable[[], None] = lambda: None

    def add(
        self,
        identity: Identity,
        files: Sequence[Wanted],
        options: dict[str, Any],
        *,
        priority: int,
        batch: str | None = None,
    ) -> list[Job]:
        """Put one job for each file in line, all or none.

        Where a connection breaks and nobody knows what became of the transaction, the same jobs are
        added again, unless they are there.
        """
        for left in reversed(range(TRIES if self._database.shared else 1)):
            try:
                with self._database.writing() as session:
                    now = moment(session)
                    jobs = [
                        Job(
                            created=now,
                            id=file.id,
                            tenant=identity.tenant,
                            key=identity.key,
                            batch=batch,
                            name=file.name,
                            bytes=file.bytes,
                            media=file.media,
                            sha256=file.sha256,
                            options=options,
                            state=State.QUEUED,
                            priority=priority,
                            attempt=0,
                            due=now,
                        )
                        for file in files
                    ]
                    session.add_all(jobs)
                break
            except IntegrityError:
                jobs = [self.find(identity.tenant, file.id) for file in files]
                break
            except ServiceError:
                if not left:
                    raise
                time.sleep(TRY_SECONDS)
        self.added()
        return jobs

    def find(self, tenant: int, id: str) -> Job:
        """Raises ``ServiceError`` (``nothing_here``) for a job that is none of this tenant's."""
        with self._database.reading() as session:
            return _find(session, tenant, id)

    def page(
        self,
        tenant: int,
        *,
        state: State | None = None,
        batch: str | None = None,
        before: int | None = None,
        most: int,
    ) -> list[Job]:
        """At most so many jobs of a tenant, the newest first, from below the number ``before``."""
        query = select(Job).where(Job.tenant == tenant).order_by(Job.number.desc()).limit(most)
        if state is not None:
            query = query.where(Job.state == state)
        if batch is not None:
            query = query.where(Job.batch == batch)
        if before is not None:
            query = query.where(Job.number < before)
        with self._database.reading() as session:
            return list(session.scalars(query))

    def take(self) -> Job | None:
        """The job whose turn it is, as a new attempt that the caller must end; None for none.

        One that cannot be opened holds up no other: it is put aside.
        """

        def first(now: int) -> Select[int]:
            query = select(Job.number).where(Job.state == State.QUEUED, Job.due <= now)
            return query.order_by(Job.priority.desc(), Job.due, Job.number).limit(1)

        def start(session: Session, number: int, now: int) -> Job:
            job = session.get_one(Job, number)
            job.state, job.started, job.attempt = State.RUNNING, now, job.attempt + 1
            job.due, job.progress, job.step = now + self._lease_ms, None, None
            return job

        return self._database.take(first, start, self._put_aside)

    def renew(self, places: Mapping[str, Place]) -> list[str]:
        """Hold these jobs for another lease, and tell how far they are; those that are held no
        more, because somebody cancelled them or the lease had ended.
        """
        lost = []
        with self._database.writing() as session:
            due = moment(session) + self._lease_ms
            for id, place in sorted(places.items()):
                ours = Job.id == id, Job.state == State.RUNNING, Job.attempt == place.attempt
                values = {"due": due, "progress": place.share, "step": place.step[:80]}
                held = session.execute(
                    update(Job).where(*ours).values(values).returning(Job.number)
                )
                if held.scalar() is None:
                    lost.append(id)
        return lost

    def finish(self, job: Job, report: Report) -> str | None:
        """Store the report, and its id; None when somebody else has ended the job."""
        with self._database.writing() as session:
            if not _end(session, job, State.DONE, error=None):
                return None
            stored = add_report(session, report, tenant=job.tenant, key=job.key, job=job.id)
            session.execute(update(Job).where(Job.number == job.number).values(report=stored.id))
            told = {"report": stored.id, "verdict": stored.verdict}
            announce(session, Event.JOB_DONE, tenant=job.tenant, data=_tell(job, State.DONE) | told)
            return stored.id

    def fail(self, job: Job, error: dict[str, Any], *, again: bool) -> State | None:
        """Note why an attempt failed; the state that the job has now, None when it is not ours.

        With ``again`` it is put in line once more after a while, unless this was the last attempt.
        """
        with self._database.writing() as session:
            if again and job.attempt < self._attempts:
                wait = min(
                    self._back_off_seconds * 2 ** (job.attempt - 1), LONGEST_BACK_OFF_SECONDS
                )
                due = moment(session) + round(wait * 1000)
                done = _change(session, job, state=State.QUEUED, error=error, due=due)
                return State.QUEUED if done else None
            state = State.DEAD if again else State.FAILED
            if not _end(session, job, state, error=error):
                return None
            _announce_failure(session, job, state, error)
            return state

    def cancel(self, tenant: int, id: str) -> Job:
        """End a job that has not ended; one that was cancelled stays so.

        Raises ``ServiceError``: ``nothing_here``, or ``conflict`` when it has ended otherwise.
        """
        with self._database.writing() as session:
            job = _find(session, tenant, id, lock=True)
            if job.state == State.CANCELLED:
                return job
            if job.state in ENDED:
                raise _conflict(job, "cannot be cancelled any more")
            job.state, job.ended = State.CANCELLED, moment(session)
            return job

    def retry(self, tenant: int, id: str) -> Job:
        """Put a dead job in line again, with all its attempts.

        Raises ``ServiceError``: ``nothing_here``, or ``conflict`` when it is not dead.
        """
        with self._database.writing() as session:
            job = _find(session, tenant, id, lock=True)
            if job.state != State.DEAD:
                raise _conflict(job, "is not a dead letter")
            job.state, job.ended, job.attempt, job.due = State.QUEUED, None, 0, moment(session)
        self.added()
        return job

    def give_back(self, job: Job) -> None:
        """Put a job in line again whose worker was told to stop, as if it had not been begun."""
        with self._database.writing() as session:
            due = moment(session)  # and not only when its lease would have ended
            _change(session, job, state=State.QUEUED, attempt=job.attempt - 1, due=due)

    def recover(self, *, silent: bool = False) -> None:
        """Put everything in line again that is still marked as running, though nobody runs it: all
        of it where this process is alone, else those ``silent`` ones whose lease has ended.

        A job whose last attempt took its process along is dead: it may be what killed it.
        """
        died = Code.WORKER_DIED
        error = {"code": died, "detail": f"job: {died.meaning}", "remedy": died.remedy}
        with self._database.writing() as session:
            now = moment(session)
            query = select(Job.number, Job.attempt).where(Job.state == State.RUNNING)
            if silent:
                query = query.where(Job.due < now)
            for number, attempt in session.execute(query.with_for_update(skip_locked=True)).all():
                change = update(Job).where(Job.number == number)
                if attempt < self._attempts:
                    session.execute(change.values(state=State.QUEUED, due=now))
                    continue
                session.execute(change.values(state=State.DEAD, ended=now, error=error))
                try:
                    job = session.get_one(Job, number)
                except ServiceError as fault:
                    if fault.code == Code.DATABASE:
                        raise
                    LOG.error("job %d: is dead, and nobody is told of it (%s)", number, fault)
                else:
                    _announce_failure(session, job, State.DEAD, error)

    def media_in_use(self) -> list[str]:
        """Where the files lie that some job still needs."""
        with self._database.reading() as session:
            return list(session.scalars(select(Job.media).where(Job.state.in_(HOLDING))))

    def bytes_in_use(self) -> int:
        """What the files take that some job still needs."""
        with self._database.reading() as session:
            total = session.scalar(select(func.sum(Job.bytes)).where(Job.state.in_(HOLDING)))
            return int(total or 0)

    def count(self) -> dict[str, int]:
        """How many jobs there are in each state."""
        with self._database.reading() as session:
            rows = session.execute(select(Job.state, func.count()).group_by(Job.state))
            return {str(state): number for state, number in rows}

    def oldest_seconds(self) -> float:
        """How long the job that has waited longest has been due; 0 for none."""
        with self._database.reading() as session:
            now = moment(session)
            waiting = Job.state == State.QUEUED, Job.due <= now
            due = session.scalar(select(func.min(Job.due)).where(*waiting))
        return 0.0 if due is None else (now - due) / 1000

    def _put_aside(self, number: int, why: ServiceError) -> None:
        """End a job whose seal is broken; put one off whose key cannot be had now. Nobody is told:
        what is told is sealed, too.
        """
        error = {
            "code": Code.ERROR,
            "detail": str(why).removesuffix(f"; {why.hint}"),
            "remedy": why.hint,
        }
        with self._database.writing() as session:
            now = moment(session)
            values = (
                {"state": State.DEAD, "ended": now}
                if isinstance(why, Unopened)
                else {"due": now + PUT_OFF_MS}
            )
            waiting = Job.number == number, Job.state == State.QUEUED, Job.due <= now
            change = update(Job).where(*waiting).values(**values, error=error)
            id = session.scalar(change.returning(Job.id))
        if id is not None:
            LOG.error("job %s: cannot be opened (%s)", id, why)


def _find(session: Session, tenant: int, id: str, *, lock: bool = False) -> Job:
    query = select(Job).where(Job.tenant == tenant, Job.id == id)
    job = session.scalar(query.with_for_update() if lock else query)
    if job is None:
        raise ServiceError("job: there is none of this id", code=Code.NOTHING_HERE, status=404)
    return job


def _end(session: Session, job: Job, state: State, **values: Any) -> bool:
    return _change(session, job, state=state, ended=moment(session), **values)


def _tell(job: Job, state: State) -> dict[str, Any]:
    """What webhooks are told of every job."""
    return {"job": job.id, "state": state, "name": job.name, "batch": job.batch}


def _announce_failure(session: Session, job: Job, state: State, error: dict[str, Any]) -> None:
    data = _tell(job, state) | {"error": error}
    announce(session, Event.JOB_FAILED, tenant=job.tenant, data=data)


def _change(session: Session, job: Job, **values: Any) -> bool:
    """Change a job that is still running this attempt; whether it is."""
    ours = Job.number == job.number, Job.state == State.RUNNING, Job.attempt == job.attempt
    row = session.scalar(select(Job).where(*ours).with_for_update())
    if row is None:
        return False
    for name, value in values.items():
        setattr(row, name, value)  # rather than an UPDATE, which would not seal it
    session.flush()
    return True


def _conflict(job: Job, why: str) -> ServiceError:
    return ServiceError(f"job: is {job.state} and {why}", code=Code.CONFLICT, status=409)
