"""What holds for all tests."""

from __future__ import annotations

import signal

# A run in the background inherits these as ignored and would hand that on to the programs that tests interrupt.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
# So that a run that is ended takes its servers with it, as one that is interrupted does.
signal.signal(signal.SIGTERM, signal.default_int_handler)
