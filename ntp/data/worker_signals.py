"""What processes that load data do when they are signalled.

Terminals and schedulers signal all processes of a run. The run then saves itself, for which it needs its rows to the
end of the step, and ends the processes that load them when it is done: only its own word may end them.
"""

import os
import signal
import threading


def leave_signals_to_the_run(worker: int) -> None:
    """For torch's ``worker_init_fn``: ignore signals, but for a SIGTERM of the parent's.

    Where the system does not tell who sent a signal, SIGTERM ends the process as ever.
    """
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_obey, args=(os.getppid(),), daemon=True).start()


def _obey(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
