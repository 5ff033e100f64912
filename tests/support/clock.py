"""Another time of day for one process, also of a program such as Vault, whose Go asks no C library.

No namespace holds the time of day, and libfaketime replaces functions of the C library. A program of Go calls the
kernel's function in the vDSO (vdso(7)), which is in the process' own memory: here it is replaced by one that asks the
kernel and adds some seconds. The monotonic clock stays as it is.
"""

from __future__ import annotations

import os
import platform
import signal
import struct
from pathlib import Path

from .servers import wait_until

CAN_SHIFT = platform.machine() == "x86_64"


def shift(pid: int, seconds: int) -> None:
    """Have a process see another time of day from now on, until it ends."""
    start, end = _vdso(pid)
    # mov eax, SYS_clock_gettime; syscall; test edi, edi (CLOCK_REALTIME is 0); jne ret; add qword [rsi], SECONDS; ret
    code = bytes.fromhex("b8e4000000 0f05 85ff 7507 488106") + struct.pack("<i", seconds) + b"\xc3"
    memory = os.open(f"/proc/{pid}/mem", os.O_RDWR)
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until("a stop", lambda: _has_stopped(pid))
        place = start + _symbol(os.pread(memory, end - start, start), b"__vdso_clock_gettime")
        assert os.pwrite(memory, code, place) == len(code)
    finally:
        os.kill(pid, signal.SIGCONT)
        os.close(memory)


def _has_stopped(pid: int) -> bool:
    """Whether no thread of a process runs any more, so that none is in the function that is replaced."""
    threads = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(thread.rpartition(")")[2].split()[0] == "T" for thread in threads)


def _vdso(pid: int) -> tuple[int, int]:
    """Return the addresses at which the vDSO of a process begins and ends."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if line.endswith("[vdso]"):
            start, end = line.split()[0].split("-")
            return int(start, 16), int(end, 16)
    raise AssertionError(f"process {pid} has no vDSO")


def _symbol(image: bytes, name: bytes) -> int:
    """Return the offset of a function in a shared object for 64 bits (elf(5)), by its section of dynamic symbols."""
    offset, size, count = *struct.unpack_from("<Q", image, 0x28), *struct.unpack_from("<HH", image, 0x3A)
    for number in range(count):
        header = struct.unpack_from("<IIQQQQIIQQ", image, offset + number * size)
        if header[1] != 11:  # SHT_DYNSYM
            continue
        names = struct.unpack_from("<IIQQQQIIQQ", image, offset + header[6] * size)[4]
        for entry in range(header[4], header[4] + header[5], 24):
            text, _, _, _, value, _ = struct.unpack_from("<IBBHQQ", image, entry)
            found = image[names + text : image.index(b"\0", names + text)]
            if found == name:
                return int(value)
    raise AssertionError(f"the vDSO has no {name.decode()}")
