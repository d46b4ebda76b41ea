"""The one kind of error that is written for the user.

Whoever raises it says in one line what was found, what was expected and what to do. The command
line prints that line and ends with status 1 (failed) or 2 (wrong usage); any other exception is a
defect of ours and keeps its traceback.
"""


class AlexNetError(Exception):
    """A failure the user can fix; its text is one line: found, expected, what to do."""

    status = 1


class UsageError(AlexNetError):
    """A wrong argument or setting; the command ends with status 2."""

    status = 2


def require(condition: bool, message: str) -> None:
    """UsageError(message) unless the condition of a setting holds."""
    if not condition:
        raise UsageError(message)
