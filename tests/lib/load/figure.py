"""Draws a timeline of lib.load as SVG: requests and errors per second and the longest wait, with marked events.

MARKS is a JSON list of {"time": epoch, "event": "..."}. "app1 drained" and a later "app1 undrained" become a shaded
band, every other mark a line.
"""

import argparse
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape
from itertools import pairwise
from math import log10
from pathlib import Path
from typing import Any

WIDTH, LEFT, RIGHT = 960, 64, 944
COLOURS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#f0e442",
)  # Okabe and Ito: safe for color-blind readers
INK, FAINT, RED, GREEN, BAND = "#1f2328", "#d0d7de", "#c1121f", "#1a7f37", "#8250df"
REQUESTS, ERRORS, WAIT, GAP = 150, 50, 140, 34  # heights
LABELS, LABEL_ROW, LETTER = 64, 15, 6.3  # pixels: top of the marks' labels, height of a row, width of a letter
LEAST, MOST = 0.001, 10  # seconds: the ends of the logarithmic axis of waits


def text(x: float, y: float, words: str, anchor: str = "start", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str = FAINT, more: str = "") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" {more}/>'


def round_step(span: float, ticks: int) -> int:
    """The smallest step of 1, 2 or 5 times a power of ten that divides the span into at most so many ticks."""
    steps = (digit * int(10**power) for power in range(7) for digit in (1, 2, 5))
    return next(step for step in steps if span / step <= ticks)


class Figure:
    """`str()` of it is the SVG."""

    def __init__(self, rows: list[dict[str, Any]], marks: list[dict[str, Any]], title: str, subtitle: str):
        """rows: a --timeline. marks: see above."""
        self._rows = rows
        self._begin = rows[0]["time"]
        self._last = len(rows)
        spans = sorted(self._spans(sorted(marks, key=lambda mark: mark["time"])))
        labels, label_rows = self._place(spans)
        top = LABELS + 14 + label_rows * LABEL_ROW
        bottom = top + REQUESTS + ERRORS + WAIT + 2 * GAP
        self._parts = [self._mark(*span, row, bottom) for span, (_, row) in zip(spans, labels, strict=True)]
        self._parts += [self._label(span[2], *place) for span, place in zip(spans, labels, strict=True)]
        self._draw_requests(top)
        self._draw_errors(top + REQUESTS + GAP)
        self._draw_waits(bottom - WAIT)
        self._draw_time(bottom)
        self._draw_head(title, subtitle)
        self._height = bottom + 46

    def __str__(self) -> str:
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self._height}" '
            f'font-family="system-ui, sans-serif" font-size="12" fill="{INK}">'
            # a white background, for dark pages
            f'<rect width="{WIDTH}" height="{self._height}" fill="#fff"/>' + "\n".join(self._parts) + "</svg>\n"
        )

    def _x(self, second: float) -> float:
        return LEFT + (RIGHT - LEFT) * min(max(second / self._last, 0), 1)

    def _spans(self, marks: list[dict[str, Any]]) -> Iterable[tuple[float, float, str]]:
        """Start, end (equal for a line) and label of each mark."""
        drained: dict[str, float] = {}
        for mark in marks:
            second = mark["time"] - self._begin
            name, _, event = mark["event"].rpartition(" ")
            if event == "drained":
                drained[name] = second
            elif event == "undrained" and name in drained:
                yield drained.pop(name), second, f"{name} drained"
            else:
                yield second, second, mark["event"]
        yield from ((second, second, f"{name} drained") for name, second in drained.items())

    def _place(self, spans: list[tuple[float, float, str]]) -> tuple[list[tuple[float, int]], int]:
        """The middle and the row of each label, so that labels don't overlap, and the number of rows."""
        ends: list[float] = []
        places = []
        for begin, end, label in spans:
            half = len(label) * LETTER / 2
            middle = min(max((self._x(begin) + self._x(end)) / 2, half), WIDTH - half)
            row = next((i for i, taken in enumerate(ends) if taken + LETTER < middle - half), len(ends))
            ends[row : row + 1] = [middle + half]
            places.append((middle, row))
        return places, len(ends)

    def _mark(self, begin: float, end: float, _: str, row: int, bottom: float) -> str:
        y = LABELS + row * LABEL_ROW
        x, width = self._x(begin), self._x(end) - self._x(begin)
        if end == begin:
            return line(x, y, x, bottom, BAND, 'class="mark" stroke-dasharray="3 3"')
        size = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{bottom - y:.1f}"'
        return f'<rect class="mark" {size} fill="{BAND}" opacity=".14"/>'

    def _label(self, label: str, middle: float, row: int) -> str:
        # the stroke keeps it readable under lines of other marks
        more = f'fill="{BAND}" font-size="11" stroke="#fff" stroke-width="3" paint-order="stroke"'
        return text(middle, LABELS + row * LABEL_ROW - 3, label, "middle", more)

    def _panel(self, top: float, height: float, name: str, ticks: Iterable[tuple[float, str]]) -> None:
        """ticks: y and label."""
        self._parts += [text(LEFT, top - 7, name, more='font-weight="600"')]
        for y, label in ticks:
            self._parts += [line(LEFT, y, RIGHT, y), text(LEFT - 8, y + 4, label, "end")]
        self._parts += [line(LEFT, top + height, RIGHT, top + height, INK)]

    def _steps(self, heights: Iterable[float]) -> str:
        """A path along the heights with a step for each second, from left to right."""
        return "".join(f"V{y:.1f}H{self._x(i + 1):.1f}" for i, y in enumerate(heights))

    def _draw_requests(self, top: float) -> None:
        most = max(row["requests"] for row in self._rows)
        step = round_step(most, 4)
        scale = REQUESTS / (most * 1.05 or 1)
        base = top + REQUESTS
        ticks = [(base - n * scale, str(n)) for n in range(step, most + 1, step)]
        self._panel(top, REQUESTS, "Requests per second, by the node that answered", ticks)
        nodes = sorted({node for row in self._rows for node in row["nodes"]})
        sums = [[0] * self._last]
        for node in nodes:
            sums.append([n + row["nodes"].get(node, 0) for n, row in zip(sums[-1], self._rows, strict=True)])
        legend = RIGHT - sum(len(node) * LETTER + 26 for node in nodes)
        for i, (node, (below, above)) in enumerate(zip(nodes, pairwise(sums), strict=True)):
            colour = FAINT if node == "none" else COLOURS[i % len(COLOURS)]
            back = "".join(f"V{base - n * scale:.1f}H{self._x(s):.1f}" for s, n in reversed([*enumerate(below)]))
            path = f"M{LEFT} {base}" + self._steps(base - n * scale for n in above) + back
            self._parts.append(f'<path class="node" d="{path}Z" fill="{colour}" fill-opacity=".8"/>')
            self._parts.append(f'<rect x="{legend:.1f}" y="{top - 17}" width="11" height="11" fill="{colour}"/>')
            self._parts.append(text(legend + 15, top - 7, node))
            legend += len(node) * LETTER + 26

    def _draw_errors(self, top: float) -> None:
        errors = [row["errors"] for row in self._rows]
        most, base = max(errors), top + ERRORS
        ticks = [(top, str(most))] if most else []
        self._panel(top, ERRORS, f"Failed requests per second: {sum(errors)} in all", ticks)
        scale = ERRORS / (most or 1)
        path = f"M{LEFT} {base}" + self._steps(base - n * scale for n in errors) + f"V{base:.1f}"
        colour = RED if most else GREEN
        self._parts.append(f'<path class="errors" d="{path}" fill="{colour}" stroke="{colour}" stroke-width="2"/>')
        if not most:
            more = f'fill="{GREEN}" font-size="14" font-weight="600"'
            self._parts.append(text((LEFT + RIGHT) / 2, base - 14, "0 failed", "middle", more))

    def _draw_waits(self, top: float) -> None:
        def y(seconds: float) -> float:
            """The height of a wait."""
            return top + WAIT * (1 - log10(min(max(seconds, LEAST), MOST) / LEAST) / log10(MOST / LEAST))

        base = top + WAIT
        ticks = [(y(n), label) for n, label in ((0.001, "1 ms"), (0.01, "10 ms"), (0.1, "100 ms"), (10, "10 s"))]
        self._panel(top, WAIT, "Longest wait of the requests sent in each second", ticks)
        path = f"M{LEFT} {base}" + self._steps(y(row["worst_wait"]) for row in self._rows)
        self._parts += [
            f'<path class="wait" d="{path}" fill="none" stroke="{INK}" stroke-width="1.5"/>',
            line(LEFT, y(1), RIGHT, y(1), RED, 'stroke-dasharray="6 3"'),
            text(LEFT - 8, y(1) + 4, "1 s", "end", f'fill="{RED}"'),
        ]

    def _draw_time(self, bottom: float) -> None:
        for second in range(0, self._last + 1, round_step(self._last, 12)):
            x = self._x(second)
            self._parts += [line(x, bottom, x, bottom + 5, INK), text(x, bottom + 19, str(second), "middle")]
        self._parts.append(text((LEFT + RIGHT) / 2, bottom + 37, "seconds", "middle"))

    def _draw_head(self, title: str, subtitle: str) -> None:
        began = datetime.fromtimestamp(self._begin, UTC).strftime("%Y-%m-%d %H:%M UTC")
        requests, errors = (sum(row[name] for row in self._rows) for name in ("requests", "errors"))
        worst = max(row["worst_wait"] for row in self._rows)
        facts = f"{requests:,} requests, {errors:,} failed, longest wait {worst:.2f} s"
        self._parts.append(text(LEFT, 24, title, more='font-size="16" font-weight="600"'))
        self._parts.append(text(LEFT, 43, " · ".join(filter(None, (facts, began, subtitle)))))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lib.load.figure", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("timeline", type=Path, help="written by lib.load --timeline")
    parser.add_argument("svg", type=Path)
    parser.add_argument("--marks", type=Path)
    parser.add_argument("--title", default="Requests under load")
    parser.add_argument("--subtitle", default="", help="such as the measured system")
    options = parser.parse_args()
    rows = json.loads(options.timeline.read_text())
    if not rows:
        parser.error(f"{options.timeline} has no rows: no request was sent")
    marks = json.loads(options.marks.read_text()) if options.marks else []
    options.svg.write_text(str(Figure(rows, marks, options.title, options.subtitle)))


if __name__ == "__main__":
    main()
