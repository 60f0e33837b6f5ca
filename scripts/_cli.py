"""What every door shares: parsing, one-line messages, exit codes, ends by signal, progress.

A door is a module with a config and a `main` that takes it, and ends with

    if __name__ == "__main__":
        sys.exit(run(main, Config))
"""

import errno
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeVar

from tqdm import tqdm

from sae.errors import ForelimbError, InputError
from scripts._config import parse

__all__ = ["exit_codes", "progress", "run"]

Config = TypeVar("Config")
Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 5.0


class _Terminated(BaseException):
    """SIGTERM arrived: what is open is closed on the way out."""


def exit_codes() -> dict[int, str]:
    """The exit codes of every command, each with its meaning.

    Returns:
        Codes in rising order; those of `ForelimbError` come from its subclasses' docstrings.

    Example:
        >>> sorted(exit_codes())
        [0, 1, 2, 3, 4, 130, 143]
    """
    codes = {
        0: "Done, or nothing to do.",
        1: "Unexpected; FORELIMB_DEBUG=1 shows where.",
        130: "Interrupted (ended by SIGINT).",
        143: "Terminated (ended by SIGTERM).",
    }
    for each in ForelimbError.__subclasses__():
        codes[each.exit_code] = (each.__doc__ or "").partition("\n")[0]
    return dict(sorted(codes.items()))


def run(
    main: Callable[[Config], int | None],
    config_class: type[Config],
    argv: Sequence[str] | None = None,
) -> int:
    """Runs a door: parses its config, calls it, and turns what goes wrong into a line and a code.

    Messages go to stderr as `forelimb: asked: …; found: …; do: …`. The traceback is shown only when
    the environment has FORELIMB_DEBUG=1. After SIGINT or SIGTERM the process ends because of that
    signal, once what was open is closed; a second signal ends it at once.

    Args:
        main: What the door does; None counts as 0.
        config_class: A frozen dataclass, see `scripts._config.parse`.
        argv: The command's words without its name; None for this process's.

    Returns:
        The exit code, for `sys.exit`.
    """
    # SIGINT too: a background job of a script inherits it ignored.
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: _terminate}
    before = {each: signal.signal(each, handler) for each, handler in handlers.items()}
    try:
        config = parse(
            config_class,
            sys.argv[1:] if argv is None else argv,
            prog=_command(main),
            description=(sys.modules[main.__module__].__doc__ or "").strip(),
            epilog=_epilog(),
        )
        _hush()
        return main(config) or 0
    except SystemExit as end:  # help and print_config end so, with 0
        return end.code if isinstance(end.code, int) else 0
    except KeyboardInterrupt:
        _end_by(signal.SIGINT)
    except _Terminated:
        _end_by(signal.SIGTERM)
    except BrokenPipeError:
        _end_by(signal.SIGPIPE)
    except Exception as error:  # noqa: BLE001  the last resort: a line instead of a traceback
        return _told(error, main)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _hush() -> None:
    """Leaves progress to the doors: a library's own bars would tear theirs."""
    transformers = sys.modules.get("transformers")
    if transformers is not None:
        transformers.utils.logging.disable_progress_bar()


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)  # a second one ends the process at once
    raise _Terminated


def _end_by(number: signal.Signals) -> NoReturn:
    """Ends the process because of a signal, so that shells and schedulers see what happened."""
    if number != signal.SIGPIPE:
        sys.stdout.flush()
    sys.stderr.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    raise SystemExit(128 + number)


def _told(error: Exception, main: Callable[..., object]) -> int:
    if os.environ.get("FORELIMB_DEBUG") == "1":
        traceback.print_exception(error)
    if isinstance(error, OSError):
        error = _from_disk(error)
    if isinstance(error, ForelimbError):
        print(f"forelimb: {error}", file=sys.stderr)
        return error.exit_code
    found = f"{type(error).__name__}: {error}".strip()
    do = "run it again with FORELIMB_DEBUG=1 to see where"
    print(f"forelimb: {ForelimbError(_command(main), found, do)}", file=sys.stderr)
    return ForelimbError.exit_code


def _from_disk(error: OSError) -> InputError:
    """An OSError as a message; one without a number, as hubs raise, keeps its own words."""
    asked = str(error.filename) if error.filename is not None else "a file or a connection"
    found = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InputError(asked, found, "free some space, or choose a folder on another disk")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return InputError(asked, found, "choose a folder you may write to, or mend its permissions")
    return InputError(asked, found, "check the name and that it is there")


def _command(main: Callable[..., object]) -> str:
    name = main.__module__
    if name == "__main__":
        spec = sys.modules["__main__"].__spec__
        if spec is None:
            return Path(sys.argv[0]).name
        name = spec.name
    return f"python -m {name}"


def _epilog() -> str:
    lines = [f"  {code:>3}  {meaning}" for code, meaning in exit_codes().items()]
    return "\n".join(["exit codes:", *lines])


def progress(
    items: Iterable[Item], label: str, total: int | None = None, unit: str = "it"
) -> Iterator[Item]:
    """The same items, with their progress on stderr: a bar on a terminal, else a line at a time.

    Args:
        items: What is gone through.
        label: What is being done, in front of the count.
        total: How many there will be; None for `len(items)` where there is one.
        unit: What is counted.

    Yields:
        Each item.

    Example:
        >>> list(progress([1, 2], "adding"))
        [1, 2]
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # pyright: ignore[reportArgumentType]
    if sys.stderr.isatty():
        yield from tqdm(items, desc=label, total=total, unit=unit, file=sys.stderr)
    else:
        yield from _lines(items, label, total, unit)


def _lines(items: Iterable[Item], label: str, total: int | None, unit: str) -> Iterator[Item]:
    """The same items, with a whole line on stderr every few seconds and at the end of long runs."""
    start = told = time.monotonic()
    count = 0

    def tell(now: float) -> None:
        shape = "{desc}: {n_fmt}{unit} in {elapsed}, {rate_fmt}"
        if total is not None:
            count_of = "{desc}: {n_fmt}/{total_fmt}{unit} ({percentage:.0f}%)"
            shape = count_of + ", {rate_fmt}, {remaining} left"
        line = tqdm.format_meter(
            count, total or 0, now - start, prefix=label, unit=unit, bar_format=shape
        )
        print(line, file=sys.stderr, flush=True)

    for item in items:
        yield item
        count += 1
        now = time.monotonic()
        if now - told >= SECONDS_BETWEEN_LINES:
            told = now
            tell(now)
    if told > start:
        tell(time.monotonic())
