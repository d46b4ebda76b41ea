"""The one kind of error a user is meant to read.

Whoever raises it says, in one line, what was found, what was expected and what to do. The verbs print that line and end with
status 1 (a failed run) or 2 (a wrong call); everything else that is raised is a defect of ours and keeps its traceback.
"""


class AlexNetError(Exception):
    """A failure the user can mend; its text is one line: found, expected, what to do."""

    status = 1


class UsageError(AlexNetError):
    """A wrong argument or setting; the verb ends with status 2."""

    status = 2


def must_be(true: bool, text: str) -> None:
    """UsageError with this text unless a setting is as it must be."""
    if not true:
        raise UsageError(text)
