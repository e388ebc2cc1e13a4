"""Leaving the project's function in the middle, to be called again.

Knows the signal; it does not know why one leaves, or when the function is called again (`elastic`).
"""


class LeaveError(BaseException):
    """Leaves the project's function; the step in work is not taken. No `Exception`: the project must not
    catch it."""
