"""What every door shares: parsing, one-line messages, exit codes, ends by signal.

A door is a module with a config and a `main` that takes it, and ends with

    if __name__ == "__main__":
        sys.exit(run(main, Config))
"""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeVar

from sae.errors import ForelimbError, InputError
from scripts._config import parse
from training.interrupt import end_by

__all__ = ["exit_codes", "run"]

Config = TypeVar("Config")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
    before = {each: signal.signal(each, _stop) for each in SIGNALS}
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
        end_by(signal.SIGINT)
    except _Terminated:
        end_by(signal.SIGTERM)
    except BrokenPipeError:
        end_by(signal.SIGPIPE)
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


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    for each in SIGNALS:
        signal.signal(each, signal.SIG_DFL)  # a second one ends the process at once
    raise KeyboardInterrupt if number == signal.SIGINT else _Terminated


def _told(error: Exception, main: Callable[..., object]) -> int:
    if os.environ.get("FORELIMB_DEBUG") == "1":
        traceback.print_exception(error)
    if isinstance(error, OSError):
        error = _from_disk(error)
    if isinstance(error, ForelimbError):
        print(f"forelimb: {_printable(str(error))}", file=sys.stderr)
        return error.exit_code
    found = f"{type(error).__name__}: {error}".strip()
    do = "run it again with FORELIMB_DEBUG=1 to see where"
    line = _printable(str(ForelimbError(_command(main), found, do)))
    print(f"forelimb: {line}", file=sys.stderr)
    return ForelimbError.exit_code


def _printable(line: str) -> str:
    """Without what steers a terminal: messages quote names and text of files."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in line)


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
