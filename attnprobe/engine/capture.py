"""CUDA graph capture: what would break a capture is refused before it is begun."""

from __future__ import annotations

from attnprobe.errors import DeviceError


def refuse_in_capture(what: str) -> None:
    """Raise where CuPy's current stream is being captured into a graph.

    Parameters
    ----------
    what : that was about to be done: "loading a kernel".

    Raises
    ------
    DeviceError
        Says what to do before the capture. The capture itself is as it was.
    """
    import cupy

    runtime = cupy.cuda.runtime
    try:
        capturing = runtime.streamIsCapturing(cupy.cuda.get_current_stream().ptr)
    except runtime.CUDARuntimeError:  # the default stream, which waits for a captured one
        capturing = True
    if capturing:
        raise DeviceError(
            f"{what} is not possible while a CUDA graph is captured; make the same call once "
            "before the capture: what is loaded and in GPU memory then can be captured"
        )
