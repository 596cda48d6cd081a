"""The exception that ends a task before it ends by itself."""

from __future__ import annotations


class Interruption(BaseException):
    """Raised in a task that has to end now; no `except Exception` of a user stops it.

    Args:
        reason: timeout or cancelled.
        message: for the user.
        frames: the number of innermost frames that belong to the interrupting code, not to the task.
    """

    def __init__(self, reason: str, message: str, frames: int = 1) -> None:
        super().__init__(reason, message, frames)
        self.reason = reason
        self.message = message
        self.frames = frames
