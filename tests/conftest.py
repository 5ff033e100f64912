"""Settings for all tests."""

from __future__ import annotations

import signal

# A run in the background ignores these signals, and so would the programs that tests start and interrupt.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
# A terminated run stops its servers, as an interrupted one does.
signal.signal(signal.SIGTERM, signal.default_int_handler)
