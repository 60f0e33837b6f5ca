"""Failures a user can act on: each says what was asked, what was found and what to do."""

__all__ = ["ConfigError", "ForelimbError", "InputError", "NumericalError"]


class ForelimbError(Exception):
    """A failure with a one-line message and the exit code a command ends with.

    Args:
        asked: What was wanted, in the user's words.
        found: What was there instead.
        do: The next step that mends it.

    Example:
        >>> str(ConfigError("k=99", "d_sae is 64", "choose k at most 64"))
        'asked: k=99; found: d_sae is 64; do: choose k at most 64'
    """

    exit_code = 1

    def __init__(self, asked: str, found: str, do: str) -> None:
        super().__init__(f"asked: {asked}; found: {found}; do: {do}".replace("\n", " "))
        self.asked, self.found, self.do = asked, found, do

    def __reduce__(self) -> tuple[type["ForelimbError"], tuple[str, str, str]]:
        """What it is made of, so that it can come from another process."""
        return type(self), (self.asked, self.found, self.do)


class ConfigError(ForelimbError):
    """The request itself is wrong: a key, a value, a hook, a combination."""

    exit_code = 2


class InputError(ForelimbError):
    """Something the request needs is missing, damaged or not what it claims to be."""

    exit_code = 3


class NumericalError(ForelimbError):
    """A computation left the numbers: a loss or a gradient that is not finite."""

    exit_code = 4
