"""One job at a time, beside the thread that asked for it."""

import sys
import threading
import weakref
from collections.abc import Callable


class Background:
    """Runs jobs on a thread of their own. The interpreter's exit waits for the one that runs.

    What a job raises is raised by the next `wait`; if none comes before `owner` goes or the interpreter exits, it
    is told of on stderr.
    """

    def __init__(self, owner: object) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        weakref.finalize(owner, self._tell)

    def start(self, job: Callable[[], object]) -> None:
        """Runs a job, when the one before has ended; raises what that one did instead."""
        self.wait()
        # A daemon would be stopped halfway by the exit.
        self._thread = threading.Thread(target=self._run, args=(job,), name="weightzip", daemon=False)
        self._thread.start()

    def join(self) -> None:
        """Waits for the job that runs."""
        thread = self._thread
        if thread is not None:
            thread.join()
            self._thread = None

    def wait(self) -> None:
        """Waits for the job that runs, and raises what it did, once."""
        self.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self, job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException as error:  # a panic isn't an Exception
            self._error = error

    def _tell(self) -> None:
        if self._error is not None:
            print(f"weightzip: this went wrong in the background: {self._error}", file=sys.stderr)
