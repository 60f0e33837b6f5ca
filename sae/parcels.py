"""Objects handed from one process of a command to another through a file both can map.

Arrays lie in the file as they are, so that processes read them from the same pages of memory and
none holds a second copy. Only what this very command wrote is ever read: the files lie in a private
temporary folder and are gone with it. Nothing else here is pickled.
"""

import mmap
import pickle
from pathlib import Path
from typing import Any

__all__ = ["lay_down", "pick_up"]

ALIGNED = 64


def lay_down(what: Any, path: Path) -> int:
    """Writes an object for `pick_up`.

    Args:
        what: Anything that can be pickled.
        path: A file to write, in a folder that no one else can write to.

    Returns:
        Bytes of the file.
    """
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(what, 5, buffer_callback=buffers.append)
    parts = [memoryview(head), *(each.raw() for each in buffers)]
    with path.open("wb") as file:
        pickle.dump([each.nbytes for each in parts], file)
        for each in parts:
            file.write(bytes(-file.tell() % ALIGNED))
            file.write(each)
        return file.tell()


def pick_up(path: Path) -> Any:
    """An object that `lay_down` wrote; its arrays are read when they are used.

    They may be written to: the file and other processes do not see that.

    Args:
        path: The file; once read it may be removed.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "parcel"
        >>> _ = lay_down({"x": bytearray(b"ab")}, path)
        >>> pick_up(path)
        {'x': bytearray(b'ab')}
    """
    with path.open("rb") as file:
        sizes = pickle.load(file)
        start = file.tell()
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    parts = []
    for size in sizes:
        start += -start % ALIGNED
        parts.append(mapped[start : start + size])
        start += size
    return pickle.loads(parts[0], buffers=parts[1:])
