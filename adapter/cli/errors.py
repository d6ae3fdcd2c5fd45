"""Every way the command can fail; the text of each is one sentence for the user."""


class UsageError(Exception):
    """The command line asks for what can't be done; nothing was read yet."""


class FileFailed(Exception):
    """One file could not be read; others may."""


class Interrupted(FileFailed):
    """The server is busy, or its answer broke off: it may be asked again."""

    def __init__(self, message: str, retry_after_s: int | None = None) -> None:
        """`retry_after_s` is what the server says of it."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ServerAway(Exception):
    """Nothing answers at the URL: the run ends."""
