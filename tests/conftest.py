"""What holds for all tests."""

from __future__ import annotations

import signal

# A run in the background inherits these as ignored and would hand that on to the programs that tests interrupt.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    signal.signal(number, handler)
