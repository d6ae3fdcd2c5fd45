"""What a benchmark leaves: Markdown on the screen and under `results/`, and a picture beside it."""

from __future__ import annotations

import datetime
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt

from benchmarks.machine import Clock, machine

RESULTS = Path(__file__).with_name("results")
WIDTH_IN, HEIGHT_IN = 9.0, 3.2


@dataclass(frozen=True)
class Chart:
    """Bars: one group for each of `groups`, in it one for each series."""

    title: str
    unit: str
    groups: Sequence[str]
    series: dict[str, Sequence[float | None]]


class Report:
    """Markdown that grows, and its charts."""

    def __init__(self, name: str, how: str) -> None:
        """`how`: what the measuring was like, for the heading."""
        self._name = name
        command = shlex.join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]])
        self._lines = [f"# {name}", "", f"`{command}`, {datetime.date.today()}: {machine()}. {how}", ""]
        self._charts: list[Chart] = []
        self._clock = Clock()

    def say(self, text: str) -> None:
        self._lines += [text, ""]

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        lines = [header, ["---"] * len(header), *rows]
        self._lines += [f"## {title}", "", *(f"| {' | '.join(line)} |" for line in lines), ""]

    def chart(self, chart: Chart) -> None:
        self._charts.append(chart)

    def save(self) -> str:
        """Keep what there is so far under `results/`."""
        RESULTS.mkdir(exist_ok=True)
        lines = self._lines
        if (stolen := self._clock.stolen()) >= 0.005:
            lines = [
                *lines,
                f"Meanwhile the machine's host kept {stolen:.0%} of the time that its CPUs were wanted.",
                "",
            ]
        if self._charts:
            self._draw()
            lines = [*lines, f"![{self._name}]({self._name}.png)", ""]
        text = "\n".join(lines)
        (RESULTS / f"{self._name}.md").write_text(text)
        return text

    def write(self) -> None:
        """Print all of it, and keep it."""
        print(self.save())

    def _draw(self) -> None:
        figure, axes = plt.subplots(
            len(self._charts), 1, figsize=(WIDTH_IN, HEIGHT_IN * len(self._charts)), squeeze=False, layout="constrained"
        )
        for axis, chart in zip(axes[:, 0], self._charts, strict=True):
            width = 0.8 / len(chart.series)
            for index, (name, values) in enumerate(chart.series.items()):
                places = [group + (index - (len(chart.series) - 1) / 2) * width for group in range(len(values))]
                axis.bar(places, [value or 0 for value in values], width, label=name)
            axis.set_title(chart.title, fontsize=10)
            axis.set_xticks(range(len(chart.groups)), chart.groups, fontsize=8)
            axis.set_ylabel(chart.unit)
            axis.legend(fontsize=8, frameon=False)
            axis.spines[["top", "right"]].set_visible(False)
        figure.savefig(RESULTS / f"{self._name}.png", dpi=100)
        plt.close(figure)
