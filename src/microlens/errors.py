"""The one exception that speaks to the user."""


class InputError(ValueError):
    """What the user gave cannot be used.

    Its text is one sentence that says what is wrong, where (file and line), and what is accepted. The command line
    prints it without a traceback and exits with status 2.
    """
