"""What was looked at, and what was found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

type Level = Literal["ok", "note", "fault"]
"""As it should be; allowed, but worth a word; wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: Its name.
        level: What it came to.
        text: One line for people.
        details: Figures, for programs; nothing but numbers, texts and lists of them.
    """

    check: str
    level: Level
    text: str
    details: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All findings about one output.

    Attributes:
        source: The file it was made of.
        output: The file that was judged.
        full: Whether every frame was decoded.
        findings: In the order of looking.
    """

    source: str
    output: str
    full: bool
    findings: tuple[Finding, ...]

    @property
    def faults(self) -> tuple[Finding, ...]:
        """The findings that are wrong."""
        return tuple(finding for finding in self.findings if finding.level == "fault")

    @property
    def notes(self) -> tuple[Finding, ...]:
        """The findings that are worth a word."""
        return tuple(finding for finding in self.findings if finding.level == "note")

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    @property
    def message(self) -> str:
        """One line: how many faults there are, and the first of them."""
        if self.ok:
            return f"{self.output} is what was to become of {self.source}"
        first, count = self.faults[0], len(self.faults)
        more = f" (and {count - 1} more)" if count > 1 else ""
        return f"{self.output} is not what was to become of {self.source}: {first.text}{more}"


def ok(check: str, text: str, **details: object) -> Finding:
    """A finding that is as it should be."""
    return Finding(check=check, level="ok", text=text, details=details)


def note(check: str, text: str, **details: object) -> Finding:
    """A finding that is allowed, but worth a word."""
    return Finding(check=check, level="note", text=text, details=details)


def fault(check: str, text: str, **details: object) -> Finding:
    """A finding that is wrong."""
    return Finding(check=check, level="fault", text=text, details=details)
