"""How a worker ends: what never ends by itself is ended first, then the HTTP server, which waits for every answer."""

import asyncio
import os
import signal
from collections.abc import Callable


def end_first(end: Callable[[], None]) -> None:
    """From now on SIGTERM calls `end`, and only then does the server hear that it is to end.

    ASGI tells an application too late, when all connections are closed. The server that set the handler which this
    replaces ends at SIGINT as well; that signal is blocked here (see `create_app`), so it gets this one, once, even if
    the terminal has sent one too: it sometimes hangs on two. To be called in the main thread, while the loop runs.
    """
    told = False

    def on_sigterm() -> None:
        nonlocal told
        if told:
            return
        told = True
        end()
        os.kill(os.getpid(), signal.SIGINT)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, on_sigterm)
