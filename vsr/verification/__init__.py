"""Judges a finished output against its source: times, streams, tags, pictures.

    expected   what was to become of the source
    report     findings, and what they come to
    clock      the times of frames
    streams    sound, subtitles, attached files, covers
    cues       the words of subtitles, whatever their format
    facts      size, shape of pixels, colour tags, chapters, tags
    pictures   small pictures compared: luma, colour, order, black, frozen, broken
    judge      `verify`, which asks all of them

Nothing here knows how an output is made, but for the options that a user gives.
"""

from vsr.verification.expected import Expected
from vsr.verification.judge import verify
from vsr.verification.report import Finding, Report

__all__ = ["Expected", "Finding", "Report", "verify"]
