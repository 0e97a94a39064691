"""A small watching process: when its parent goes, in whatever way, it removes what the parent left.

Inputs:   lines on standard input: ``pid N``, ``gone N``, ``folder PATH``, ``removed PATH``; end of file = the parent is gone.
Effects:  SIGKILL to the process groups still noted, then the noted folders are removed.
Rule 1:   imports nothing but the standard library; it is started by its path, not as a module.
Rule 2:   it outlives every signal a terminal sends; only end of file ends it.

``atexit`` covers a normal end and Ctrl-C; this covers SIGKILL and a crash of the interpreter, on every POSIX
system (PR_SET_PDEATHSIG is Linux only and fires when the *thread* that started the child ends).
"""

import contextlib
import os
import shutil
import signal
import sys


def main() -> None:
    """Note pids and folders until standard input ends, then remove what is still noted."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    pids: dict[int, None] = {}
    folders: dict[str, None] = {}
    for line in sys.stdin:
        verb, _, value = line.rstrip("\n").partition(" ")
        if verb == "pid":
            pids[int(value)] = None
        elif verb == "gone":
            pids.pop(int(value), None)
        elif verb == "folder":
            folders[value] = None
        elif verb == "removed":
            folders.pop(value, None)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
    for folder in folders:
        # A dying broker may still write a file into a folder that is being removed.
        for _ in range(20):
            shutil.rmtree(folder, ignore_errors=True)
            if not os.path.exists(folder):
                break


if __name__ == "__main__":
    main()
