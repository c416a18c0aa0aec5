"""Starts a process that outlives its parent.

Usage: `spawn.py LOG PROGRAM ARGUMENT...`; prints the id of the new process. It is run as a file by a bare
interpreter
and imports nothing of mxpipe. The caller cannot fork safely by itself (it may have threads), and a child that
is not
forked twice would stay behind as a zombie of a caller that lives on.
"""

import os
import sys


def main() -> None:
    """Start the program detached and print its id."""
    log, *command = sys.argv[1:]
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        os._exit(0)
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
