"""Runs a program where io_uring is forbidden, as some container runtimes forbid it: io_uring_setup gives EPERM.

usage: without_io_uring.py PROGRAM [ARGUMENT ...]
"""

import ctypes
import errno
import os
import struct
import sys

IO_URING_SETUP = 425  # on every architecture
PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
ALLOW, ERRNO = 0x7FFF0000, 0x00050000

# Classic BPF over struct seccomp_data, whose first word is the number of the call.
program = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in [
        (0x20, 0, 0, 0),  # load the number
        (0x15, 0, 1, IO_URING_SETUP),  # is it this one?
        (0x06, 0, 0, ERRNO | errno.EPERM),
        (0x06, 0, 0, ALLOW),
    ]
)
buffer = ctypes.create_string_buffer(program)


class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("program", ctypes.c_void_p)]


libc = ctypes.CDLL(None, use_errno=True)
filter_ = Filter(len(program) // 8, ctypes.addressof(buffer))
if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
    sys.exit("prctl(PR_SET_NO_NEW_PRIVS): " + os.strerror(ctypes.get_errno()))
if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(filter_), 0, 0) != 0:
    sys.exit("prctl(PR_SET_SECCOMP): " + os.strerror(ctypes.get_errno()))
os.execv(sys.argv[1], sys.argv[1:])
