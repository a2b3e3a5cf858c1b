"""Ties a process to the one that started it, so that not even `kill -9` of the launcher leaves one behind.

Run as a file: `python leash.py PARENT COMMAND …`. It asks the kernel for SIGTERM at the parent's death, then becomes
the command. An exec wrapper rather than Popen's `preexec_fn`, which may deadlock in a process that has threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def tie(parent: int) -> None:
    """Have the kernel send us SIGTERM when `parent` (a process id) dies. Exits at once if it already has."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit(143)  # it died before the leash was on: nobody would ever tell us


def main() -> None:
    tie(int(sys.argv[1]))
    # The launcher waits for its signals with all of them blocked, and Python ignores SIGPIPE: both would be inherited.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.execvp(sys.argv[2], sys.argv[2:])
    except OSError as error:
        sys.exit(f"{sys.argv[2]}: {error.strerror}")


if __name__ == "__main__":
    main()
