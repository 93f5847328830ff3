"""Which errors are the user's to mend, and in what words; all others are faults of ours."""

import errno

from ssgan.errors import UserError
from ssgan.screen import cut

__all__ = ["sentence"]

NAME_WIDTH = 200


def sentence(error: BaseException) -> str | None:
    """What the user can do about an error that a command ended with; None where it is a fault of ours."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"There is no room left on the disk ({error.filename or 'output'}): make some and try again."
    if isinstance(error, OSError) and error.errno in (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM):
        return f"{cut(str(error.filename or 'A file'), NAME_WIDTH)} cannot be used ({error.strerror})."
    of_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if of_memory or "allocate memory" in str(error):
        return "There is not enough memory for this: lower seeds, batch_size, init_images or the widths."
    if hasattr(error, "format_message"):  # the option parser's errors know how to word themselves
        words = error.format_message().rstrip(".")
        return f"{words}{'' if words.endswith('?') else '.'} See `ssgan --help`."
    return None
