"""What a check found: plain dataclasses that print as a table."""

import dataclasses
import math

__all__ = ["Check", "Report"]


@dataclasses.dataclass(frozen=True)
class Check:
    """One check: what was measured, what was allowed, and the worst element.

    `passed` is None where the check could not be made; `note` says why. `details` holds further numbers: of "against
    float64" "worst", "rms" (in units of eps · scale), "ulp" and "relative" (to the expected value), those of autodiff
    in the same dtype ("autodiff_worst" and so on) and the "ratio" of the two rms; of "residuals" the bytes, "ours" and
    "autodiff".
    """

    name: str
    dtype: str
    passed: bool | None
    measured: float = 0.0
    allowed: float = 0.0
    unit: str = "eps"
    where: str = ""
    got: float = math.nan
    expected: float = math.nan
    note: str = ""
    details: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """The verdict in a word."""
        return "skipped" if self.passed is None else "ok" if self.passed else "FAILED"

    @property
    def cells(self) -> tuple[str, ...]:
        """What a table says of it: measured, allowed, unit, worst element, got, expected."""
        if self.passed is None:
            return ("",) * 6
        values = (_number(self.got), _number(self.expected)) if self.where else ("", "")
        return _number(self.measured), _number(self.allowed), self.unit, self.where, *values

    def __str__(self) -> str:
        text = f"{self.name} ({self.dtype}): "
        if self.passed is None:
            return f"{text}skipped: {self.note}"
        text += f"measured {_number(self.measured)} {self.unit}, allowed {_number(self.allowed)}"
        if self.where:
            text += f"; worst at {self.where}: got {self.got!r}, expected {self.expected!r}"
        return text + (f"; {self.note}" if self.note else "")


@dataclasses.dataclass(frozen=True)
class Report:
    """All checks of one function. Prints as a table; `assert_ok` raises if one failed."""

    name: str
    reference: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed; those that were skipped do not count."""
        return not self.failures

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.verdict == "FAILED")

    def assert_ok(self) -> None:
        """Raise an AssertionError that names every failed check, unless all passed.

        Raises:
            AssertionError: a check failed.
        """
        if not self.ok:
            lines = "\n".join(f"  {check}" for check in self.failures)
            raise AssertionError(f"the gradient of {self.name} failed {len(self.failures)} checks:\n{lines}\n\n{self}")

    def __str__(self) -> str:
        header = ("check", "dtype", "measured", "allowed", "unit", "worst element", "got", "expected", "verdict")
        rows = [(check.name, check.dtype, *check.cells, check.verdict) for check in self.checks]
        notes = [f"{c.name} ({c.dtype}): {c.note}" for c in self.checks if c.note]
        skipped = sum(check.passed is None for check in self.checks)
        made = len(self.checks) - skipped
        summary = "all checks passed" if self.ok else f"{len(self.failures)} of {made} checks failed"
        summary += f", {skipped} skipped" if skipped else ""
        return "\n".join([f"{self.name}, against {self.reference}", *aligned(header, rows), *notes, summary])


def aligned(header, rows) -> list[str]:
    """The lines of a table in plain text."""
    table = [header, *rows]
    widths = [max(len(row[n]) for row in table) for n in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def _number(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    return str(int(value)) if value == int(value) and abs(value) < 1e6 else f"{value:.3g}"
