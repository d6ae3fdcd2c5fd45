"""Jobs and their pages' results: the one place that decides who runs a job and what of it is done."""

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import orjson

from adapter.jobs.database import open_database
from adapter.jobs.records import Failure, Job, NewJob, PageProgress, PageRecord, Status, Totals
from adapter.storage.database import transaction
from adapter.tensors import Usage

_JOB = """SELECT id, model, fields, field, declared_type, file_name, numbers, key_id, status,
    (SELECT COUNT(*) FROM pages WHERE job_id = id),
    (SELECT COUNT(error_status) FROM pages WHERE job_id = id),
    created_s, started_s, ended_s, num_takeovers, error_status, error FROM jobs"""
_PAGE = """number, result, error_status, finish_reason, text, markdown, raw,
    num_input_tokens, num_output_tokens, num_cached_tokens"""


class JobStore:
    """One connection, for one thread at a time. Every method is one transaction; raises `sqlite3.Error`.

    A running job belongs to the `owner` that claimed it, until its lease ends unrenewed: the next claim takes it over.
    `clock` gives seconds since 1970, the same for every process on the file.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Raises `JobStoreError`."""
        self._clock = clock
        self._connection = open_database(path)

    def close(self) -> None:
        self._connection.close()

    def has_room(self, max_jobs: int) -> bool:
        """Whether there are fewer than `max_jobs` that have not ended."""
        return bool(self._row("SELECT COUNT(*) < ? FROM jobs WHERE ended_s IS NULL", max_jobs)[0])

    def create(self, job: NewJob, max_jobs: int) -> list[str] | None:
        """The ids of those that ended first, deleted so that no more than `max_jobs` are kept.

        None, and nothing done, where there is no room.
        """
        with transaction(self._connection):
            if not self.has_room(max_jobs):
                return None
            num_surplus = self._row("SELECT COUNT(*) FROM jobs")[0] + 1 - max_jobs
            deleted = self._delete_ended("ORDER BY ended_s, position LIMIT ?", max(0, num_surplus))
            self._connection.execute(
                "INSERT INTO jobs"
                " (id, model, fields, field, declared_type, file_name, numbers, key_id, status, created_s)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?)",
                (
                    job.id,
                    job.model,
                    job.fields,
                    job.field,
                    job.declared_type,
                    job.file_name,
                    orjson.dumps(list(job.numbers)),
                    job.key_id,
                    self._clock(),
                ),
            )
        return deleted

    def get(self, job_id: str) -> Job | None:
        row = self._row(f"{_JOB} WHERE id = ?", job_id)
        return None if row is None else _job(row)

    def newest(self, limit: int, after: str | None = None, key_id: str | None = None) -> list[Job]:
        """At most `limit`, newest first, all of them older than the job `after`; none if there is no such job.

        With `key_id` that key's only.
        """
        wanted = "(:key_id IS NULL OR key_id = :key_id)"
        if after is not None:
            wanted += " AND position < (SELECT position FROM jobs WHERE id = :after)"
        parameters = {"key_id": key_id, "after": after, "limit": limit}
        rows = self._connection.execute(f"{_JOB} WHERE {wanted} ORDER BY position DESC LIMIT :limit", parameters)
        return [_job(row) for row in rows]

    def ids(self) -> set[str]:
        return {job_id for (job_id,) in self._connection.execute("SELECT id FROM jobs")}

    def claim(self, owner: str, lease_s: float) -> Job | None:
        """The oldest job that waits, or whose runner is gone, becomes the `owner`'s; None if there is none.

        The runners that are gone are counted until a page has been read.
        """
        now_s = self._clock()
        with transaction(self._connection):
            found = self._row(
                "SELECT id FROM jobs WHERE status = 'queued' OR (status = 'running' AND lease_until_s <= ?)"
                " ORDER BY position LIMIT 1",
                now_s,
            )
            if found is None:
                return None
            self._connection.execute(
                "UPDATE jobs SET num_takeovers = num_takeovers + (status = 'running'), status = 'running', owner = ?,"
                " lease_until_s = ?, started_s = COALESCE(started_s, ?) WHERE id = ?",
                (owner, now_s + lease_s, now_s, *found),
            )
            return self.get(*found)

    def renew(self, owner: str, job_ids: Collection[str], lease_s: float) -> set[str]:
        """Which of these jobs are the `owner`'s still; their leases are extended once a third has gone."""
        now_s = self._clock()
        mine = "owner = ? AND status = 'running' AND id IN (SELECT value FROM json_each(?))"
        ids = orjson.dumps(list(job_ids)).decode()
        with transaction(self._connection):
            self._connection.execute(
                f"UPDATE jobs SET lease_until_s = ? WHERE {mine} AND lease_until_s < ?",
                (now_s + lease_s, owner, ids, now_s + lease_s * 2 / 3),
            )
            return {row[0] for row in self._connection.execute(f"SELECT id FROM jobs WHERE {mine}", (owner, ids))}

    def release(self, owner: str) -> None:
        """Put the `owner`'s jobs back into the queue, each at its old place."""
        with transaction(self._connection):
            self._connection.execute(
                "UPDATE jobs SET status = 'queued', owner = NULL, lease_until_s = NULL"
                " WHERE owner = ? AND status = 'running'",
                (owner,),
            )

    def remaining(self, job: NewJob) -> list[int]:
        """The job's pages that are not done, ascending."""
        rows = self._connection.execute("SELECT number FROM pages WHERE job_id = ?", (job.id,))
        done = {number for (number,) in rows}
        return [number for number in job.numbers if number not in done]

    def record(self, owner: str, job_id: str, page: PageRecord) -> bool:
        """Keep a page's result; a page that has one keeps that. False: the job is not the `owner`'s any more."""
        usage = page.usage
        counts = (usage.num_input_tokens, usage.num_output_tokens, usage.num_cached_tokens)
        with transaction(self._connection):
            if not self._is_owned(owner, job_id):
                return False
            self._connection.execute(
                f"INSERT INTO pages (job_id, {_PAGE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    job_id,
                    page.number,
                    page.result,
                    page.error_status,
                    page.finish_reason,
                    page.text,
                    page.markdown,
                    page.raw,
                    *counts,
                ),
            )
            self._connection.execute("UPDATE jobs SET num_takeovers = 0 WHERE id = ?", (job_id,))
        return True

    def finish(self, owner: str, job_id: str, failure: Failure | None = None) -> bool:
        """End the `owner`'s job: failed for `failure` or because every page failed, else done. False: not the owner's.

        Where every page failed, the first one's error is the job's.
        """
        with transaction(self._connection):
            job = self.get(job_id)
            if job is None or not self._is_owned(owner, job_id):
                return False
            if failure is None and job.num_failed == len(job.asked.numbers):
                first = "SELECT error_status, result FROM pages WHERE job_id = ? ORDER BY number LIMIT 1"
                status, result = self._row(first, job_id)
                failure = Failure(status, orjson.dumps(orjson.loads(result)["error"]))
            self._end(job_id, "done" if failure is None else "failed", failure)
        return True

    def cancel_or_delete(self, job_id: str) -> Job | None:
        """Cancel a job that has not ended, delete one that has. The job as it was; None if there was none."""
        with transaction(self._connection):
            job = self.get(job_id)
            if job is not None and job.ended_s is None:
                self._end(job_id, "cancelled", None)
            elif job is not None:
                self._connection.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
            return job

    def expire(self, ttl_s: float) -> list[str]:
        """Delete the jobs that ended at least `ttl_s` ago; their ids."""
        ended_s = self._clock() - ttl_s
        with transaction(self._connection):
            return self._delete_ended("AND ended_s <= ?", ended_s)

    def pages(self, job_id: str, first: int, limit: int) -> list[PageRecord]:
        """Pages that are done, ascending, from the number `first` on."""
        rows = self._connection.execute(
            f"SELECT {_PAGE} FROM pages WHERE job_id = ? AND number >= ? ORDER BY number LIMIT ?",
            (job_id, first, limit),
        )
        return [
            PageRecord(number, result, status, finish_reason, Usage(*counts), text, markdown, raw)
            for number, result, status, finish_reason, text, markdown, raw, *counts in rows
        ]

    def usages(self, job_id: str) -> dict[int, Usage]:
        """What each page that is done has used, by its number."""
        rows = self._connection.execute(
            "SELECT number, num_input_tokens, num_output_tokens, num_cached_tokens FROM pages WHERE job_id = ?",
            (job_id,),
        )
        return {number: Usage(*counts) for number, *counts in rows}

    def totals(self, job_id: str) -> Totals:
        counts = "SUM(num_input_tokens), SUM(num_output_tokens), SUM(num_cached_tokens)"
        usage = Usage(*(count or 0 for count in self._row(f"SELECT {counts} FROM pages WHERE job_id = ?", job_id)))
        reasons = self._connection.execute(
            "SELECT finish_reason FROM pages WHERE job_id = ? AND finish_reason IS NOT NULL"
            " GROUP BY finish_reason ORDER BY MIN(number)",
            (job_id,),
        )
        return Totals(usage, [reason for (reason,) in reasons])

    def progress(self, job_id: str, first: int) -> list[PageProgress]:
        """All pages that are done, ascending, from the number `first` on."""
        rows = self._connection.execute(
            "SELECT number, failed, num_done FROM (SELECT number, error_status IS NOT NULL AS failed,"
            " ROW_NUMBER() OVER (ORDER BY number) AS num_done FROM pages WHERE job_id = ?) WHERE number >= ?"
            " ORDER BY number",
            (job_id, first),
        )
        return [PageProgress(number, bool(failed), num_done) for number, failed, num_done in rows]

    def _is_owned(self, owner: str, job_id: str) -> bool:
        owned = "SELECT COUNT(*) FROM jobs WHERE id = ? AND owner = ? AND status = 'running'"
        return bool(self._row(owned, job_id, owner)[0])

    def _delete_ended(self, which: str, *parameters: Any) -> list[str]:
        query = f"SELECT id FROM jobs WHERE ended_s IS NOT NULL {which}"
        ended = self._connection.execute(query, parameters).fetchall()
        self._connection.executemany("DELETE FROM jobs WHERE id = ?", ended)
        return [job_id for (job_id,) in ended]

    def _end(self, job_id: str, status: Status, failure: Failure | None) -> None:
        error = (None, None) if failure is None else (failure.status, failure.error)
        self._connection.execute(
            "UPDATE jobs SET status = ?, error_status = ?, error = ?, ended_s = ?, owner = NULL, lease_until_s = NULL"
            " WHERE id = ?",
            (status, *error, self._clock(), job_id),
        )

    def _row(self, query: str, *parameters: Any) -> Any:
        return self._connection.execute(query, parameters).fetchone()


def _job(row: Sequence[Any]) -> Job:
    job_id, model, fields, field, declared_type, file_name, numbers, key_id, *standing, error_status, error = row
    asked = NewJob(job_id, model, fields, field, declared_type, file_name, orjson.loads(numbers), key_id)
    status, num_done, num_failed, created_s, started_s, ended_s, num_takeovers = standing
    failure = None if error is None else Failure(error_status, error)
    return Job(asked, status, num_done, num_failed, created_s, started_s, ended_s, num_takeovers, failure)
