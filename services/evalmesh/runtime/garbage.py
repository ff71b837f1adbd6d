"""Garbage collection for processes that live on many small, short-lived objects."""

import gc


def tune_garbage_collection() -> None:
    """Call once, after start-up: what is loaded stays, and is not looked through again and again.

    By default a full collection walks every module, class and decoder each time some ten thousand objects were made,
    which costs about a tenth of the CPU per sample and stops the event loop for tens of milliseconds.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
