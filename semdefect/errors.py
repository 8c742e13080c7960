"""The one exception for mistakes that the user can mend."""


class UserError(Exception):
    """Bad input. The message is one sentence that names the file or key and the fix.

    Command lines print it as ``error: <message>`` on standard error and exit with 1, without a traceback.
    """
