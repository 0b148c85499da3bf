"""Shut a process of Linux in: namespaces, a file system of its own, no privileges, a filter of system calls, limits.

What is done is what container runtimes do, by the same system calls; see namespaces(7), pivot_root(2), capabilities(7).
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import sys
from collections.abc import Mapping

from .system_calls import refuse_system_calls

NOBODY = 65534
CODE = "/code"
SCRATCH = "/tmp"
_FILES = 4096  # in SCRATCH: each takes memory of the kernel's, however empty

_NEW_MOUNTS, _NEW_NAMES, _NEW_IPC = 0x00020000, 0x04000000, 0x08000000
_NEW_USERS, _NEW_PROCESSES, _NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
_READ_ONLY, _NO_SETUID, _NO_DEVICES, _REMOUNT = 1, 2, 4, 32
_BIND, _RECURSIVE, _PRIVATE = 4096, 16384, 1 << 18
_DETACH = 2
_AT_CURRENT, _AT_RECURSIVE = -100, 0x8000
_SYSTEM_MOUNT_SETATTR = 442  # on every architecture
_DIE_WITH_PARENT, _NO_NEW_PRIVILEGES = 1, 38
_CAPABILITIES_VERSION_3 = 0x20080522


class Unavailable(Exception):
    """This system gives no namespaces to this user."""


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result:
        raise Unavailable(f"{what}: {os.strerror(ctypes.get_errno())}")


def isolate(root: str, package: str, scratch_bytes: int) -> None:
    """Enter new namespaces of users, mounts, network, IPC and names; children will be in a new one of processes.

    The file system is then the interpreter, the system's libraries and ``package`` under ``/code``, all read-only, and
    an empty ``/tmp`` in memory. Root needs no namespace of users: `drop` makes it nobody.

    Args:
        root: an empty directory, to mount on.
        package: the directory of these files.
        scratch_bytes: that ``/tmp`` holds.

    Raises:
        Unavailable: the system refuses.
    """
    user, group = os.geteuid(), os.getegid()
    try:
        flags = _NEW_MOUNTS | _NEW_NETWORK | _NEW_IPC | _NEW_NAMES | _NEW_PROCESSES | (_NEW_USERS if user else 0)
        _checked(_libc().unshare(flags), "unshare")
        if user:
            for name, content in (
                ("setgroups", "deny"),
                ("uid_map", f"{NOBODY} {user} 1"),
                ("gid_map", f"{NOBODY} {group} 1"),
            ):
                with open(f"/proc/self/{name}", "w") as file:
                    file.write(content)
        _mount("none", "/", None, _RECURSIVE | _PRIVATE)
        _mount("tmpfs", root, "tmpfs", _NO_SETUID | _NO_DEVICES, "size=1m,mode=755")
        for path in _visible():
            _show(root, path, path)
        _show(root, package, f"{CODE}/{os.path.basename(package)}")
        for device in ("/dev/null", "/dev/urandom"):
            _make_parents(root + device)
            open(root + device, "w").close()
            _mount(device, root + device, None, _BIND)
        os.mkdir(root + SCRATCH)
        _mount(
            "tmpfs",
            root + SCRATCH,
            "tmpfs",
            _NO_SETUID | _NO_DEVICES,
            f"size={scratch_bytes},nr_inodes={_FILES},mode=1777",
        )
        _mount("none", root, None, _REMOUNT | _BIND | _READ_ONLY | _NO_SETUID | _NO_DEVICES)
        # Both on one place, then the lower one away: pivot_root(2), "pivot_root(".", ".")".
        os.chdir(root)
        _checked(_libc().pivot_root(b".", b"."), "pivot_root")
        _checked(_libc().umount2(b".", _DETACH), "umount2")
        os.chdir(SCRATCH)
    except (OSError, AttributeError) as error:
        raise Unavailable(f"{type(error).__name__}: {error}") from error


def _visible() -> list[str]:
    """The interpreter, and directories of libraries that it may load."""
    wanted = {sys.base_prefix, sys.base_exec_prefix, "/usr", "/lib", "/lib32", "/lib64"}
    with open("/proc/self/maps") as file:
        libraries = {line.split(maxsplit=5)[5].strip() for line in file if ".so" in line}
    wanted |= {os.path.dirname(path) for path in libraries if path.startswith("/")}
    chosen: list[str] = []
    for path in sorted(path for path in map(os.path.normpath, wanted) if os.path.isdir(path)):
        if path == "/":
            raise Unavailable("libraries lie at the root of the file system")
        if not any(os.path.realpath(path).startswith(f"{os.path.realpath(one)}/") for one in chosen):
            chosen.append(path)
    return chosen


def _show(root: str, source: str, place: str) -> None:
    """Bind a directory, read-only with all that is mounted below it; a link stays a link."""
    target = root + place
    _make_parents(target)
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
        return
    os.mkdir(target)
    _mount(source, target, None, _BIND | _RECURSIVE)
    attributes = (ctypes.c_uint64 * 4)(_READ_ONLY | _NO_SETUID | _NO_DEVICES, 0, 0, 0)
    result = _libc().syscall(
        ctypes.c_long(_SYSTEM_MOUNT_SETATTR),
        ctypes.c_int(_AT_CURRENT),
        ctypes.c_char_p(os.fsencode(target)),
        ctypes.c_uint(_AT_RECURSIVE),
        ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
    )
    _checked(result, f"mount_setattr {place}")


def _make_parents(path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    names = [None if one is None else os.fsencode(one) for one in (source, target, kind)]
    _checked(_libc().mount(*names, ctypes.c_ulong(flags), options.encode()), f"mount {target}")


def new_processes() -> None:
    """The next child is the first process of a namespace, and sees no other.

    Raises:
        Unavailable: the system refuses.
    """
    _checked(_libc().unshare(_NEW_PROCESSES), "unshare")


def die_with_parent() -> None:
    """Be killed when the parent ends, however it ends. Linux only; elsewhere nothing."""
    if sys.platform == "linux":
        _libc().prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)


def drop() -> None:
    """Give up every privilege for good, that of root included, and the system calls that lead around the other walls.

    Raises:
        Unavailable: the system refuses.
    """
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    _checked(_libc().prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "prctl")
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION_3, 0)
    _checked(_libc().capset(ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)())), "capset")
    try:
        refuse_system_calls()
    except OSError as error:
        raise Unavailable(f"seccomp: {error.strerror}") from error


def limit(limits: Mapping[str, int], *, alone: bool) -> None:
    """Limit this process.

    Args:
        limits: ``cpu_seconds``, ``memory_bytes``, ``file_bytes``.
        alone: whether it may make no process and no thread.
    """
    wanted = {
        "RLIMIT_CPU": limits["cpu_seconds"],
        "RLIMIT_AS": limits["memory_bytes"],
        "RLIMIT_DATA": limits["memory_bytes"],
        "RLIMIT_FSIZE": limits["file_bytes"],
        "RLIMIT_NOFILE": 32,
        "RLIMIT_CORE": 0,
    }
    if alone:
        wanted["RLIMIT_NPROC"] = 0
    for name, most in wanted.items():
        kind = getattr(resource, name, None)
        if kind is None:
            continue
        try:
            # The end of the time is told by a signal of its own; a process that ignores that has a second more.
            resource.setrlimit(kind, (most, most + 1 if name == "RLIMIT_CPU" else most))
        except (OSError, ValueError) as error:
            # Some systems know a limit by name only.
            if getattr(error, "errno", errno.EINVAL) != errno.EINVAL:
                raise


_FORBIDDEN = (
    "socket.", "subprocess.", "ctypes.", "shutil.", "fcntl.", "mmap.", "syslog.", "resource.setrlimit",
    "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile", "os.kill", "signal.pthread_kill",
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown",
    "os.lchown", "os.chflags", "os.lockf", "os.utime", "os.setxattr", "os.removexattr", "os.putenv", "_thread.",
    "pty.", "sqlite3.", "urllib.", "http.", "ftplib.", "smtplib.", "telnetlib.", "imaplib.", "poplib.", "nntplib.",
)  # fmt: skip
# Modules whose functions do so without an event of their own.
_UNHEARD = frozenset({"ctypes", "_ctypes", "cffi", "_cffi_backend", "multiprocessing", "_posixshmem", "_dbm", "_gdbm"})


def guard() -> None:
    """Refuse, in this interpreter, what an honest function does not do: write, connect, start or signal a process.

    An audit hook (PEP 578), which Python code cannot take away. It is no sandbox: native code is not asked.
    """
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        refused = event.startswith(_FORBIDDEN)
        if event == "open":
            _, mode, flags = arguments
            opens_to_write = isinstance(mode, str) and any(letter in mode for letter in "wax+")
            refused = opens_to_write or (isinstance(flags, int) and bool(flags & writing))
        elif event == "import":
            refused = arguments[0] in _UNHEARD
        if refused:
            raise PermissionError(f"{event} is not allowed here")

    sys.addaudithook(hook)
