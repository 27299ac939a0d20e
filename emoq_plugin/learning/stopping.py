"""SIGTERM during a pass: a scheduler's warning before it ends the job."""

import os
import signal
import threading


class HeldSigterm:
    """Holds SIGTERM back inside a `with` block, so that a pass ends and is saved.

    If the block ends as if nothing had come, the signal is delivered after it.

    Parameters
    ----------
    hold : bool, default=True
        False leaves SIGTERM as it is, for example without a checkpoint to write.

    Attributes
    ----------
    came : bool
        Whether SIGTERM has come.

    Examples
    --------
    >>> try:
    ...     with HeldSigterm() as held:
    ...         os.kill(os.getpid(), signal.SIGTERM)
    ...         if held.came:
    ...             raise InterruptedError("stopped, all is saved")
    ... except InterruptedError as error:
    ...     print(error)
    stopped, all is saved
    """

    def __init__(self, hold: bool = True):
        # Python lets only the main thread set handlers.
        self.hold = hold and threading.current_thread() is threading.main_thread()
        self.came = False

    def __enter__(self) -> "HeldSigterm":
        if self.hold:
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def _note(self, *_) -> None:
        self.came = True

    def __exit__(self, kind: type | None, *_) -> None:
        if self.hold:
            signal.signal(signal.SIGTERM, self._before or signal.SIG_DFL)
            if self.came and kind is None:
                os.kill(os.getpid(), signal.SIGTERM)
