"""System calls that namespaces and limits do not stop, refused by a filter in the kernel; see seccomp(2).

Not all address families know network namespaces: by a socket of AF_VSOCK a program in a virtual machine reaches the
machine below. Memory of System V segments, of message queues and of files without a name counts to no process, so that
no limit holds it. Who makes a namespace of users has all privileges in it. Keys outlive whoever has stored them.
"""

from __future__ import annotations

import ctypes
import errno
import os

_SET_SECCOMP, _FILTER = 22, 2
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # of classic BPF: words, jumps by constants, the end
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4  # in struct seccomp_data
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
_SECOND_TABLE = 0x40000000  # of x86-64: the calls of x32 have numbers from here on

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1), "riscv64": (0xC00000F3, 1)}
"""What the kernel calls each, and the column of its numbers below."""

_REFUSED = {
    "socket": (41, 198),
    "unshare": (272, 97),
    "setns": (308, 268),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
}
"""Numbers of each call: of x86-64, and of the architectures that share the generic table."""


def refuse_system_calls() -> None:
    """Let this process, and all that it starts, have "operation not permitted" of these calls.

    It must have given up new privileges (PR_SET_NO_NEW_PRIVS).

    Raises:
        OSError: this kernel, or this architecture, does not do so.
    """
    machine = os.uname().machine
    if machine not in _ARCHITECTURES or ctypes.sizeof(ctypes.c_void_p) != 8:
        raise OSError(errno.ENOSYS, f"the system calls of {machine} are not known")
    architecture, column = _ARCHITECTURES[machine]
    numbers = sorted(call[column] for call in _REFUSED.values())
    tests = [(_EQUAL, number) for number in numbers] + [(_AT_LEAST, _SECOND_TABLE)]
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 0, len(tests) + 2, architecture),
        (_LOAD, 0, 0, _NUMBER_AT),
        *((test, len(tests) - index, 0, number) for index, (test, number) in enumerate(tests)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    instructions = (_Instruction * len(program))(*(_Instruction(*one) for one in program))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_SECCOMP, _FILTER, ctypes.byref(_Program(len(program), instructions)), 0, 0):
        raise OSError(number := ctypes.get_errno(), os.strerror(number))


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("constant", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction)))
