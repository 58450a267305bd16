"""Jobs in line: added, taken by workers, ended once.

A worker takes a job as one *attempt*, and ends it only while that attempt is still the present one
and the job is still running. So a job may be examined more than once (at least once, whatever
dies), and has one report at most.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from deepfake.errors import ServiceError
from deepfake.reasons import Code
from deepfake.types import Report

from .database import Database
from .keys import Identity
from .reports import add_report
from .tables import ENDED, Job, State, new_id, now_ms

LONGEST_BACK_OFF_SECONDS = 3600.0


class Wanted(NamedTuple):
    """A file to examine: what it is called, how large it is, and where it lies."""

    name: str
    bytes: int
    media: str


class Jobs:
    """The jobs in ``database``. ``added`` is called after some were put in line."""

    def __init__(self, database: Database, *, attempts: int, back_off_seconds: float) -> None:
        self._database = database
        self._attempts, self._back_off_seconds = attempts, back_off_seconds
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
        """Put one job for each file in line, all or none."""
        now = now_ms()
        jobs = [
            Job(
                created=now,
                id=new_id("job"),
                tenant=identity.tenant,
                key=identity.key,
                batch=batch,
                name=file.name,
                bytes=file.bytes,
                media=file.media,
                options=options,
                state=State.QUEUED,
                priority=priority,
                attempt=0,
                due=now,
            )
            for file in files
        ]
        with self._database.writing() as session:
            session.add_all(jobs)
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
        """The job whose turn it is, as a new attempt that the caller must end; None for none."""
        now = now_ms()
        first = (
            select(Job.number)
            .where(Job.state == State.QUEUED, Job.due <= now)
            .order_by(Job.priority.desc(), Job.due, Job.number)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        with self._database.writing() as session:
            number = session.scalar(first)
            if number is None:
                return None
            job = session.get_one(Job, number)
            job.state, job.started, job.attempt = State.RUNNING, now, job.attempt + 1
            return job

    def finish(self, job: Job, report: Report) -> str | None:
        """Store the report, and its id; None when somebody else has ended the job."""
        with self._database.writing() as session:
            if not _end(session, job, State.DONE):
                return None
            stored = add_report(session, report, tenant=job.tenant, key=job.key, job=job.id)
            values = {"report": stored.id, "error": None}
            session.execute(update(Job).where(Job.number == job.number).values(values))
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
                done = _change(
                    session, job, state=State.QUEUED, error=error, due=now_ms() + round(wait * 1000)
                )
                return State.QUEUED if done else None
            state = State.DEAD if again else State.FAILED
            return state if _end(session, job, state, error=error) else None

    def cancel(self, tenant: int, id: str) -> Job:
        """End a job that has not ended; one that was cancelled stays so.

        Raises ``ServiceError``: ``nothing_here``, or ``conflict`` when it has ended otherwise.
        """
        with self._database.writing() as session:
            job = _find(session, tenant, id)
            if job.state == State.CANCELLED:
                return job
            if job.state in ENDED:
                raise _conflict(job, "cannot be cancelled any more")
            job.state, job.ended = State.CANCELLED, now_ms()
            return job

    def retry(self, tenant: int, id: str) -> Job:
        """Put a dead job in line again, with all its attempts.

        Raises ``ServiceError``: ``nothing_here``, or ``conflict`` when it is not dead.
        """
        with self._database.writing() as session:
            job = _find(session, tenant, id)
            if job.state != State.DEAD:
                raise _conflict(job, "is not a dead letter")
            job.state, job.ended, job.attempt, job.due = State.QUEUED, None, 0, now_ms()
        self.added()
        return job

    def give_back(self, job: Job) -> None:
        """Put a job in line again whose worker was told to stop, as if it had not been begun."""
        with self._database.writing() as session:
            _change(session, job, state=State.QUEUED, attempt=job.attempt - 1)

    def recover(self) -> None:
        """Put everything in line again that a process before has left running.

        A job whose last attempt took its process along is dead: it may be what killed it.
        """
        with self._database.writing() as session:
            running = Job.state == State.RUNNING
            died = Code.WORKER_DIED
            error = {"code": died, "detail": f"job: {died.meaning}", "remedy": died.remedy}
            session.execute(
                update(Job)
                .where(running, Job.attempt >= self._attempts)
                .values(state=State.DEAD, ended=now_ms(), error=error)
            )
            session.execute(update(Job).where(running).values(state=State.QUEUED, due=now_ms()))

    def media_in_use(self) -> list[str]:
        """Where the files lie that some job still needs."""
        needed = (State.QUEUED, State.RUNNING, State.DEAD)
        with self._database.reading() as session:
            return list(session.scalars(select(Job.media).where(Job.state.in_(needed))))

    def count(self) -> dict[str, int]:
        """How many jobs there are in each state."""
        with self._database.reading() as session:
            rows = session.execute(select(Job.state, func.count()).group_by(Job.state))
            return {str(state): number for state, number in rows}

    def oldest_seconds(self) -> float:
        """How long the job that has waited longest has been due; 0 for none."""
        now = now_ms()
        query = select(func.min(Job.due)).where(Job.state == State.QUEUED, Job.due <= now)
        with self._database.reading() as session:
            due = session.scalar(query)
        return 0.0 if due is None else (now - due) / 1000


def _find(session: Session, tenant: int, id: str) -> Job:
    job = session.scalar(select(Job).where(Job.tenant == tenant, Job.id == id))
    if job is None:
        raise ServiceError("job: there is none of this id", code=Code.NOTHING_HERE, status=404)
    return job


def _end(session: Session, job: Job, state: State, **values: Any) -> bool:
    return _change(session, job, state=state, ended=now_ms(), **values)


def _change(session: Session, job: Job, **values: Any) -> bool:
    """Change a job that is still running this attempt; whether it is."""
    ours = Job.number == job.number, Job.state == State.RUNNING, Job.attempt == job.attempt
    changed = session.execute(update(Job).where(*ours).values(**values).returning(Job.number))
    return changed.scalar() is not None


def _conflict(job: Job, why: str) -> ServiceError:
    return ServiceError(f"job: is {job.state} and {why}", code=Code.CONFLICT, status=409)
