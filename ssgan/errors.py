"""Mistakes a user can make and mend."""


class UserError(ValueError):
    """A request that cannot be met; its text is one sentence that says what, which value and the way out.

    The command line prints the text and exits with status 2, without a traceback.
    """
