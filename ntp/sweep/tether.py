"""Replaces itself by a command that is told to stop when the process that started it dies, however it dies.

Run as a file, before anything is imported: ``python -I -S tether.py <pid of the parent> <command> ...``. Code between
fork and exec would do the same, if forking a process with threads and running Python in it were safe.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel (Linux only) for SIGTERM at the parent's death, and become the command."""
    parent, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it has died already
        sys.exit(128 + signal.SIGTERM)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
