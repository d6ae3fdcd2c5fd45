"""Every way the command can fail; the text of each is one sentence for the user."""


class UsageError(Exception):
    """The command line asks for what can't be done; nothing was read yet."""


class FileFailed(Exception):
    """One file could not be read; others may."""


class ServerAway(Exception):
    """Nothing answers at the URL: the run ends."""
