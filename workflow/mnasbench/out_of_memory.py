"""Whether an error means that memory was short, and what to say then."""

import errno

# How the libraries beneath, and the system's loader and threads, word what Python calls MemoryError.
_WORDS = (
    *("bad_alloc", "can't allocate memory", "failed to allocate memory", "cannot allocate memory", "memoryerror"),
    *("failed to map segment from shared object", "can't start new thread"),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was short, whichever library's words say so."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return isinstance(error, (RuntimeError, ImportError, OSError)) and tells_of_memory(str(error))


def tells_of_memory(text: str) -> bool:
    """Whether a last word is that memory was short."""
    return any(words in text.lower() for words in _WORDS)


def not_enough_memory(said: str = "") -> str:
    """That memory was short and what helps; ``said`` is what was said of it elsewhere."""
    where = f" ({said})" if said else ""
    advice = "free some, or give it less to do at once (fewer instances or workers, a smaller batch)"
    return f"not enough memory{where}; {advice}"
