"""A disk without room, for the length of a `with` block."""

import resource
import signal
from contextlib import contextmanager


@contextmanager
def files_of_at_most(limit):
    """A disk that takes no file beyond so many bytes.

    Only around what is tested: pytest's own report goes into a file as well where output is redirected.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
