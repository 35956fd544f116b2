"""What can go wrong through no fault of the code: each error is one line a person can act on."""

from __future__ import annotations


class PulseError(Exception):
    """A user's mistake, or the world's: the text says what, which file, why and what to do."""


class PictureError(PulseError):
    """A picture that cannot be read or written."""


class WeightsError(PulseError):
    """A weights file that is missing, damaged, or not a generator that PULSE knows."""


class DeviceError(PulseError):
    """A device that was asked for and is not there."""
