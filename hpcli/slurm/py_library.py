"""libslurm inside this process, through pyslurm: loaded once, with one configuration, asked by one thread at a time.

libslurm ends the process that loads it with a slurm.conf which it cannot read. So load it only where Slurm's own
programs have just answered with that configuration.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

from hpcli.slurm.py_shapes import Pyslurm

T = TypeVar("T")

_ITS_ERRORS = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What pyslurm raises beside its own: for a name that is no UTF-8, an attribute that another version has."""


class CannotSay(Exception):
    """pyslurm is not there, or cannot answer this exactly; the command line is to be asked."""


class Library:
    """`load` imports pyslurm; `set_conf` changes libslurm's environment alone, not what our children inherit."""

    def __init__(
        self,
        load: Callable[[], Pyslurm],
        set_conf: Callable[[str, str], None] = os.putenv,
        present: Callable[[], bool] = lambda: "pyslurm" in sys.modules,
    ) -> None:
        self._load = load
        self._set_conf = set_conf
        self._present = present
        self._lock = threading.Lock()
        self._module: Pyslurm | None = None
        self._conf = ""

    def open(self, conf: str) -> str:
        """Load libslurm with this slurm.conf ("": where Slurm looks by itself); give pyslurm's version.

        Raises `CannotSay` when it does not load or is loaded with another one.
        """
        with self._lock:
            if self._module is None:
                self._module = self._first(conf)
                self._conf = conf
            if conf != self._conf:
                raise CannotSay(f"found libslurm loaded with {_named(self._conf)}, expected {_named(conf)}")
            return self._module.__version__

    async def ask(self, question: Callable[[Pyslurm], T]) -> T:
        """Put a question in a thread of its own. Raises `CannotSay`."""
        return await asyncio.to_thread(self._answer, question)

    def _first(self, conf: str) -> Pyslurm:
        if self._present():
            raise CannotSay("found pyslurm imported by somebody else, with a configuration that is not known")
        if conf:
            self._set_conf("SLURM_CONF", conf)
        try:
            return self._load()
        except (ImportError, *_ITS_ERRORS) as error:
            raise CannotSay(f"import of pyslurm failed: {error}") from error

    def _answer(self, question: Callable[[Pyslurm], T]) -> T:
        with self._lock:
            if self._module is None:
                raise CannotSay("found libslurm not loaded")
            try:
                return question(self._module)
            except (self._module.PyslurmError, *_ITS_ERRORS) as error:
                raise CannotSay(f"{type(error).__name__}: {error}") from error


def _named(conf: str) -> str:
    return conf or "Slurm's own slurm.conf"
