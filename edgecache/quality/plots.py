"""The figures of a report, from its JSON: the same picture as SVG for the page and as PNG for elsewhere.

matplotlib is needed here only: `pip install 'edgecache[bench]'`.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Result = Mapping[str, Any]

_STYLE: Final[dict[str, Any]] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.hashsalt": "edgecache",
}
_LEAST: Final = 1e-4
"""Rates below this are drawn at it: the axes are logarithmic."""


def draw(result: Result) -> dict[str, tuple[str, bytes]]:
    """Every figure that `result` has the figures for: name → SVG, PNG."""
    with rc_context(_STYLE):
        return {name: (_svg(figure), _png(figure)) for name, figure in _figures(result).items()}


def _figures(result: Result) -> dict[str, Figure]:
    found = {}
    for name, stream in result.get("streams", {}).items():
        found[f"{name}-tradeoff"] = _tradeoff(name, stream)
        found[f"{name}-tiers"] = _tiers(name, stream)
        found[f"{name}-course"] = _course(name, stream)
    if "pairs" in result:
        found["pairs-roc"] = _ranking(result["pairs"]["sets"], "roc", "let through among pairs that differ", "recall")
        found["pairs-precision"] = _ranking(result["pairs"]["sets"], "pr", "recall", "precision")
    if result.get("entries"):
        found["entries"] = _entries(result["entries"]["rows"])
    if result.get("orders"):
        found["orders"] = _orders(result["orders"])
    return found


def _svg(figure: Figure) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
    return file.getvalue()


def _axes(columns: int = 1, width: float = 7.0, height: float = 4.2) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    made = figure.subplots(1, columns, squeeze=False)
    return figure, list(made[0])


def _tradeoff(name: str, stream: Result) -> Figure:
    """Hit rate against wrong-hit rate: curves of policies, points of peers."""
    figure, (axes,) = _axes()
    for curve, points in stream["curves"].items():
        wrong = [max(point["wrong"]["rate"], _LEAST) for point in points]
        hits = [point["hits"]["rate"] for point in points]
        axes.plot(wrong, hits, marker="o", markersize=3.5, label=curve)
        if curve == "budget":
            for point, x, y in zip(points, wrong, hits, strict=True):
                axes.annotate(f"{point['setting']:.1%}", (x, y), (0, 5), textcoords="offset points", fontsize=7)
    drawn = {"edgecache", "cosine"}
    for each in stream["columns"]:
        if "error" not in each and each["name"].replace(",", " ").split()[0] not in drawn:
            axes.plot(
                max(each["wrong"]["rate"], _LEAST), each["hits"]["rate"], marker="s", linestyle="", label=each["name"]
            )
    axes.axhline(stream["about"]["oracle hits"]["rate"], color="black", linestyle=":", linewidth=1, label="oracle")
    axes.set(xscale="log", xlabel="wrong answers per request served", ylabel="hit rate", title=name)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _tiers(name: str, stream: Result) -> Figure:
    """Hits by tier, and the wrong ones among them, for each column."""
    rows = [each for each in stream["columns"] if "tiers" in each][::-1]
    figure, (axes,) = _axes(height=1.2 + 0.28 * len(rows))
    left = [0.0] * len(rows)
    for tier in ("exact", "identical", "semantic"):
        right = [
            (row["tiers"][tier]["hits"]["count"] - row["tiers"][tier]["wrong"]) / max(row["requests"], 1)
            for row in rows
        ]
        axes.barh([row["name"] for row in rows], right, left=left, label=f"{tier}, right")
        left = [a + b for a, b in zip(left, right, strict=True)]
    axes.barh(
        [row["name"] for row in rows], [row["wrong"]["rate"] for row in rows], left=left, color="#b00", label="wrong"
    )
    axes.axvline(stream["about"]["oracle hits"]["rate"], color="black", linestyle=":", linewidth=1, label="oracle")
    axes.set(xlabel="share of requests", title=f"{name}: hits by tier")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _course(name: str, stream: Result) -> Figure:
    """How hit rate and wrong-hit rate develop as the cache fills and evidence comes in."""
    figure, (hits, wrong) = _axes(2, width=9.0, height=3.6)
    for column, points in stream["course"].items():
        if column.startswith(("edgecache", "cosine 0.9", "exact")):
            asked = [point["requests"] for point in points]
            hits.plot(asked, [point["hit_rate"] for point in points], label=column)
            wrong.plot(asked, [max(point["wrong_rate"], _LEAST) for point in points], label=column)
    hits.set(xlabel="requests", ylabel="hit rate so far", title=name)
    wrong.set(xlabel="requests", ylabel="wrong answers per request so far", yscale="log")
    wrong.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _ranking(sets: Result, kind: str, across: str, up: str) -> Figure:
    figure, made = _axes(max(len(sets), 1), width=3.2 * max(len(sets), 1), height=3.4)
    for axes, (name, part) in zip(made, sets.items(), strict=True):
        for signal, said in part["signals"].items():
            x, y = zip(*said[kind], strict=True)
            axes.plot([max(each, _LEAST) for each in x] if kind == "roc" else x, y, label=signal)
        axes.set(xlabel=across, ylabel=up, title=name, ylim=(0, 1.02))
        if kind == "roc":
            axes.set(xscale="log", xlim=(_LEAST, 1))
        axes.legend(loc="best")
    return figure


def _entries(rows: Sequence[Result]) -> Figure:
    """Wrong-hit rate against entries, with intervals."""
    figure, (axes,) = _axes(height=3.6)
    for row in rows:
        sizes = [each["entries"] for each in row["sizes"]]
        rates = [each["wrong"]["rate"] for each in row["sizes"]]
        below = [each["wrong"]["rate"] - each["wrong"]["low"] for each in row["sizes"]]
        above = [each["wrong"]["high"] - each["wrong"]["rate"] for each in row["sizes"]]
        axes.errorbar(sizes, rates, yerr=[below, above], marker="o", capsize=3, label=row["name"])
    axes.set(xscale="log", xlabel="entries before the first request", ylabel="wrong answers per request served")
    axes.legend()
    return figure


def _orders(orders: Mapping[str, Sequence[Result]]) -> Figure:
    """Observed share of wrong answers in each order, as a multiple of the budget."""
    figure, made = _axes(len(orders), width=4.4 * len(orders), height=3.4)
    for axes, (name, rows) in zip(made, orders.items(), strict=True):
        for n, row in enumerate(rows):
            observed = sorted(rate / row["budget"] for rate in row["observed"])
            spread = [n + 0.6 * (i / max(len(observed) - 1, 1) - 0.5) for i in range(len(observed))]
            axes.plot(spread, observed, marker=".", linestyle="", markersize=3)
        axes.axhline(1.0, color="black", linewidth=1)
        axes.set_xticks(range(len(rows)), [f"{row['budget']:.1%}" for row in rows])
        axes.set(xlabel="budget", ylabel="observed / budget", title=name, ylim=(0, None))
    return figure
