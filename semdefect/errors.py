"""The one exception for mistakes that the user can mend, and how to know memory that ran out."""


class UserError(Exception):
    """Bad input. The message is one sentence that names the file or key and the fix.

    Command lines print it as ``error: <message>`` on standard error and exit with 1, without a traceback.
    """


def out_of_memory(error: Exception) -> bool:
    """Whether Python, NumPy or torch got no memory; of a processor's torch says so in words alone."""
    signs = "allocate memory", "out of memory", "not enough memory", "bad_alloc", "alloc_failed", "invalid buffer size"
    words = str(error).lower()
    by_word = isinstance(error, RuntimeError) and any(sign in words for sign in signs)  # others may quote a file
    return isinstance(error, MemoryError) or by_word
