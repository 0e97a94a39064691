"""Child processes and temporary folders that never outlive this interpreter.

Inputs:   ``keep(pid)`` / ``release(pid)``, ``temporary_folder()`` / ``remove_folder(path)``.
Effects:  a warden process is told; ``atexit`` removes what is left.
Rule 1:   a pid is kept before anything can fail after its start, and released only when it has been reaped.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

_lock = threading.RLock()
_warden: subprocess.Popen[str] | None = None
_warden_owner = 0
_pids: dict[int, None] = {}
_folders: dict[str, None] = {}


def keep(pid: int) -> None:
    """Remember a process-group leader that has to die with us."""
    with _lock:
        _pids[pid] = None
        _tell(f"pid {pid}")


def release(pid: int) -> None:
    """Forget a process that has ended: its number may be given to a stranger."""
    with _lock:
        if _pids.pop(pid, 0) is None:
            _tell(f"gone {pid}")


def temporary_folder(prefix: str) -> Path:
    """Make a folder that is removed when we end."""
    folder = tempfile.mkdtemp(prefix=prefix)
    with _lock:
        _folders[folder] = None
        _tell(f"folder {folder}")
    return Path(folder)


def remove_folder(folder: Path) -> None:
    """Remove a folder made by `temporary_folder` now."""
    shutil.rmtree(folder, ignore_errors=True)
    with _lock:
        _folders.pop(str(folder), None)
        if not folder.exists():
            _tell(f"removed {folder}")


def _tell(line: str) -> None:
    global _warden, _warden_owner
    if _warden is None or _warden_owner != os.getpid():
        script = Path(__file__).with_name("warden.py")
        _warden = subprocess.Popen(
            [sys.executable, "-I", "-S", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        _warden_owner = os.getpid()
        atexit.register(_remove_everything, os.getpid())
    assert _warden.stdin is not None
    with contextlib.suppress(BrokenPipeError, ValueError):
        _warden.stdin.write(line + "\n")
        _warden.stdin.flush()


def _remove_everything(owner: int) -> None:
    if os.getpid() != owner:
        return
    with _lock:
        for pid in list(_pids):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        for folder in list(_folders):
            shutil.rmtree(folder, ignore_errors=True)
        # The warden goes over the same list once more: a broker may have written while it died.
        if _warden is not None and _warden.stdin is not None:
            with contextlib.suppress(BrokenPipeError, ValueError):
                _warden.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                _warden.wait(timeout=10)


def _forget_in_child() -> None:
    """A forked child shares the pipe: it must close its end, or the warden never sees ours close."""
    global _lock
    _lock = threading.RLock()
    if _warden is not None and _warden.stdin is not None:
        with contextlib.suppress(OSError, ValueError):
            _warden.stdin.close()
    _pids.clear()
    _folders.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
