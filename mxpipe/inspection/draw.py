"""A plan as a drawing: its steps in running order, what reads what, and the arena over time.

One row a step. Left: an arc from each step to those that read its result. Middle: the step, coloured by who
wrote its kernel, with a bar for its time (its bytes where the plan was not profiled). Right: the arena, an
offset a column; a block spans the rows from the step that writes it to the last one that reads it.

The colours are the CSS variables of `mxpipe.viz`, so a page can set its own; the files need nothing else.
"""

from __future__ import annotations

import html

from mxpipe.viz import COLOURS

from .plan import ArenaBlock, PlanView, Step
from .text import kind_table, megabytes, summary

__all__ = ["to_html", "to_svg"]

_ROW, _TOP = 16, 56
_ARCS, _LABELS, _BARS, _ARENA, _GAP = 150, 330, 150, 380, 16
_FAMILIES = {"onednn": "first", "vec": "third", "portable": "second"}
_DARK = {"ink": "#e6e8ec", "soft": "#9aa1ac", "line": "#3a3f49", "first": "#7aa2ff", "third": "#45c4a0"}


def to_svg(plan: PlanView, title: str) -> str:
    """The drawing as SVG text.

    Args:
        plan: What is drawn.
        title: Stands above it.
    """
    width = _ARCS + _LABELS + _BARS + _ARENA + 4 * _GAP
    height = _TOP + _ROW * max(len(plan.steps), 1) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} '
        f'{height}" font-family="system-ui, sans-serif" font-size="11" role="img" '
        f'aria-label="{html.escape(title)}">',
        _text(_GAP, 18, title, size=14),
        *_headings(plan),
        *_arcs(plan),
        *_rows(plan),
        *[_block(block, plan) for block in plan.arena if block.bytes],
        *_legend(height),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def to_html(plan: PlanView, title: str) -> str:
    """A page with the summary, the kernels by time, the drawing and every step as text."""
    light = "".join(f"--viz-{name}:{colour};" for name, colour in COLOURS.items())
    dark = "".join(f"--viz-{name}:{colour};" for name, colour in _DARK.items())
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title><style>'
        f":root{{color-scheme:light dark;{light}}}"
        f"@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
        "body{font:14px system-ui,sans-serif;margin:2rem}pre{overflow-x:auto;font-size:12px}"
        "svg{max-width:none}div{overflow-x:auto}</style>"
        f"<h1>{html.escape(title)}</h1><pre>{html.escape(summary(plan))}</pre>"
        f"<h2>Kernels</h2><pre>{html.escape(kind_table(plan))}</pre>"
        f"<h2>Steps and memory</h2><div>{to_svg(plan, title)}</div>"
        f"<h2>All steps</h2><pre>{html.escape(plan.table())}</pre></html>\n"
    )


def _colour(name: str) -> str:
    return f"var(--viz-{name}, {COLOURS[name]})"


def _family(step: Step) -> str:
    return _FAMILIES.get(step.kernel.split(" ", 1)[0], "fourth")


def _text(x: float, y: float, text: str, *, size: int = 11, colour: str = "ink", end: bool = False) -> str:
    anchor = ' text-anchor="end"' if end else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{_colour(colour)}"{anchor}>'
        f"{html.escape(text)}</text>"
    )


def _middle(number: int) -> float:
    return _TOP + _ROW * (number + 0.5)


def _headings(plan: PlanView) -> list[str]:
    left = _GAP + _ARCS
    measure = "time" if plan.runs else "bytes"
    arena = f"arena, {megabytes(plan.arena_bytes)}, scratch at the end"
    return [
        _text(_GAP, _TOP - 10, "who reads it", colour="soft"),
        _text(left, _TOP - 10, "step", colour="soft"),
        _text(left + _LABELS + _GAP, _TOP - 10, measure, colour="soft"),
        _text(left + _LABELS + _BARS + 2 * _GAP, _TOP - 10, arena, colour="soft"),
    ]


def _arcs(plan: PlanView) -> list[str]:
    """Farther readers get wider arcs."""
    right, parts = _GAP + _ARCS - 6, []
    count = max(len(plan.steps), 2)
    for step in plan.steps:
        for source in step.sources:
            distance = step.number - source
            reach = 8 + (_ARCS - 20) * min(1.0, (distance / count) ** 0.5)
            top, bottom = _middle(source), _middle(step.number)
            parts.append(
                f'<path d="M{right} {top:.1f}C{right - reach:.1f} {top:.1f} {right - reach:.1f} {bottom:.1f} '
                f'{right} {bottom:.1f}" fill="none" stroke="{_colour("soft")}" stroke-opacity="0.45"/>'
            )
    return parts


def _rows(plan: PlanView) -> list[str]:
    measures = [step.seconds or 0.0 if plan.runs else float(step.bytes) for step in plan.steps]
    largest = max(measures, default=0.0) or 1.0
    parts = []
    for step, measure in zip(plan.steps, measures, strict=True):
        said = f"{measure * 1e3:.3f} ms" if plan.runs else megabytes(measure)
        parts += _row(step, said, (_BARS - 64) * measure / largest)
    return parts


def _row(step: Step, said: str, length: float) -> list[str]:
    left = _GAP + _ARCS
    y = _TOP + _ROW * step.number
    details = (
        f"{step.number} {step.op}\n{step.kernel}\nreads {', '.join(map(str, step.inputs))}\n"
        f"writes {', '.join(map(str, step.outputs))}\n{step.flops / 1e6:.2f} MFLOP, {megabytes(step.bytes)}"
    )
    colour, bars = _colour(_family(step)), left + _LABELS + _GAP
    label = f"{step.number}  {step.op}: {step.kernel}"
    shown = label if len(label) <= 58 else label[:57] + "…"
    return [
        f"<g><title>{html.escape(details)}</title>",
        f'<rect x="{left - 6}" y="{y + 3}" width="4" height="{_ROW - 6}" fill="{colour}"/>',
        _text(left, y + 12, shown),
        f'<rect x="{bars}" y="{y + 3}" width="{max(length, 0.5):.1f}" height="{_ROW - 6}" fill="{colour}"/>',
        _text(bars + length + 4, y + 12, said, size=10, colour="soft"),
        "</g>",
    ]


def _block(block: ArenaBlock, plan: PlanView) -> str:
    left = _GAP + _ARCS + _LABELS + _BARS + 2 * _GAP
    scale = _ARENA / max(plan.arena_bytes, 1)
    last = min(block.last, len(plan.steps) - 1)
    y, height = _TOP + _ROW * block.first + 1, _ROW * (last - block.first + 1) - 2
    details = (
        f"written by step {block.first}, read until {last}: {megabytes(block.bytes)} at {block.offset:,}"
    )
    colour = _colour(_family(plan.steps[block.first]))
    return (
        f'<rect x="{left + block.offset * scale:.2f}" y="{y}" width="{max(block.bytes * scale, 0.6):.2f}" '
        f'height="{height}" fill="{colour}" fill-opacity="0.35" stroke="{colour}" stroke-width="0.6">'
        f"<title>{html.escape(details)}</title></rect>"
    )


def _legend(height: int) -> list[str]:
    parts, x = [], float(_GAP + _ARCS)
    for family, name in (*_FAMILIES.items(), ("other", "fourth")):
        parts.append(
            f'<rect x="{x}" y="{height - 24}" width="10" height="10" fill="{_colour(name)}"/>'
            + _text(x + 14, height - 15, family, colour="soft")
        )
        x += 90
    return parts
