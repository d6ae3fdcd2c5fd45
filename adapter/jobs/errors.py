"""How a request about jobs can fail that no other request can."""

from adapter.errors import ApiError, NotFound, Overloaded, Unavailable


class JobNotFound(NotFound):
    code = "job_not_found"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no job {job_id[:80]!r}; it may have expired.", param="job_id")


class JobNotDone(ApiError):
    """The whole result of a job that has none."""

    status, type, code = 409, "invalid_request_error", "job_not_done"


class FilesLost(NotFound):
    """The job was removed meanwhile, or somebody has cleared its folder."""

    code = "job_files_lost"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"The files of {job_id} are not there any more; create the job anew.")


class TooManyJobs(Overloaded):
    code = "too_many_jobs"


class StoreUnavailable(Unavailable):
    """The jobs' database or folder can't be used now: a full disk, a lock that stays, damage."""

    def __init__(self, cause: str) -> None:
        super().__init__("The jobs' database can't be used; the server's log says why.", cause=cause)
