"""The table of what the hit decision must reach, filled from what was found. Judges, measures nothing."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from edgecache.quality.intervals import Share

Result = Mapping[str, Any]


class Row(msgspec.Struct, frozen=True):
    """One demand and what was found. `ok` is whether a side condition holds (a wrong-hit rate); `note` says which."""

    measure: str
    found: str
    value: float
    must: float
    aim: float
    less: bool = False
    ok: bool = True
    note: str = ""

    def meets(self, bound: float) -> bool:
        """Whether the value is on the right side of `bound`, and the side condition holds."""
        return self.ok and (self.value <= bound if self.less else self.value >= bound)

    def to_dict(self) -> dict[str, Any]:
        """JSON-compatible."""
        sign = "≤" if self.less else "≥"
        return {
            "measure": self.measure,
            "found": self.found,
            "value": self.value,
            "must": f"{sign} {self.must:g}",
            "aim": f"{sign} {self.aim:g}",
            "meets must": self.meets(self.must),
            "meets aim": self.meets(self.aim),
            "note": self.note,
        }


_STREAMS: Final = (
    ("stream_paraphrase", 0.01, 0.18, 0.25),
    ("stream_repeat", 0.005, 0.585, 0.60),
    ("stream_repeat", 0.002, 0.575, 0.59),
)


def table(result: Result) -> list[dict[str, Any]]:
    """Every row that `result` can fill."""
    makers: Sequence[Callable[[Result], list[Row]]] = (_streams, _orders, _pairs, _checklist, _entries, _cost)
    return [row.to_dict() for make in makers for row in make(result)]


def _streams(result: Result) -> list[Row]:
    """The hit rate with the budget set to the limit, played in order of arrival; the wrong-hit rate must keep it."""
    rows = []
    for name, limit, must, aim in _STREAMS:
        stream = result.get("streams", {}).get(name, {"curves": {}})
        for point in stream["curves"].get("budget", ()):
            if point["setting"] == limit:
                hits, wrong = point["hits"], point["wrong"]
                note = f"budget {limit:.1%}: wrong {_share(wrong)}; {_hindsight(stream, limit)}"
                measure = f"{name}: hit rate at ≤ {limit:.1%} wrong"
                ok = wrong["rate"] <= limit
                rows.append(Row(measure, _share(hits), hits["rate"], must, aim, ok=ok, note=note))
    return rows


def _hindsight(stream: Result, limit: float) -> str:
    said = []
    for curve, points in stream["curves"].items():
        able = [each for each in points if each["wrong"]["rate"] <= limit]
        if able:
            best = max(able, key=lambda each: float(each["hits"]["rate"]))
            said.append(f"{curve} {best['setting']:g} {best['hits']['rate']:.2%}")
    return "best setting with hindsight: " + ", ".join(said)


def _orders(result: Result) -> list[Row]:
    orders = result.get("orders") or {}
    rows = [(name, row) for name, each in orders.items() for row in each]
    if not rows:
        return []
    name, worst = min(rows, key=lambda each: float(each[1]["kept"]["rate"]))
    note = "; ".join(
        f"{stream} {row['budget']:.1%}: {row['kept']['count']} of {row['kept']['total']}" for stream, row in rows
    )
    found = f"{_share(worst['kept'])} of orders at the worst ({name}, {worst['budget']:.1%})"
    measure = "budget kept: share of orders with observed ≤ budget, least over budgets and streams"
    return [Row(measure, found, worst["kept"]["rate"], 0.95, 0.95, note=note)]


def _pairs(result: Result) -> list[Row]:
    said = (result.get("pairs") or {}).get("sets", {}).get("qqp")
    if said is None or "score" not in said["signals"]:
        return []
    score, cosine = said["signals"]["score"], said["signals"]["cosine"]
    area, recall = score["auc"], score["recall at 5 % false"]
    found = f"{area['value']:.4f} [{area['low']:.4f}, {area['high']:.4f}]"
    verifier = said["signals"]["verifier"]
    return [
        Row(
            "QQP pairs, held out by question cluster: AUC", found, area["value"], 0.925, 0.95,
            note=f"cosine {cosine['auc']['value']:.4f}, verifier alone {verifier['auc']['value']:.4f}",
        ),
        Row(
            "QQP pairs: recall at 5 % false", _share(recall), recall["rate"], 0.60, 0.75,
            note=f"cosine {cosine['recall at 5 % false']['rate']:.4f}, "
            f"verifier alone {verifier['recall at 5 % false']['rate']:.4f}",
        ),
    ]  # fmt: skip


def _checklist(result: Result) -> list[Row]:
    served = (result.get("pairs") or {}).get("sets", {}).get("checklist", {}).get("served")
    budgets = {
        name: said for name, said in (served or {}).get("must not match", {}).items() if name.startswith("budget")
    }
    if not served or not budgets:
        return []
    name, worst = max(budgets.items(), key=lambda each: float(each[1]["rate"]))
    note = f"under the evidence of {name}; must-match served {_share(served['must match'][name])}; cosine 0.90 " + (
        _share(served["must not match"]["cosine 0.90"])
    )
    measure = "CheckList must-not-match served at the default budget"
    return [Row(measure, _share(worst), worst["rate"], 0.20, 0.05, less=True, note=note)]


def _entries(result: Result) -> list[Row]:
    rows = (result.get("entries") or {}).get("rows", ())
    for row in rows:
        if row["name"].startswith("edgecache"):
            growth = row["growth"]
            sizes = "; ".join(f"{each['entries']:,}: {_share(each['wrong'])}" for each in row["sizes"])
            found = f"{growth['value']:+.3%} [{growth['low']:+.3%}, {growth['high']:+.3%}]"
            measure = "growth of the wrong-hit rate from the fewest to the most entries, lower end of its interval"
            return [Row(measure, found, growth["low"], 0.0, 0.0, less=True, note=sizes)]
    return []


def _cost(result: Result) -> list[Row]:
    said = result.get("verifier") or {}
    if not said.get("questions"):
        return []
    found = f"{said['median ms']} ms, p99 {said['p99 ms']} ms, {said['pairs a second']} pairs a second"
    note = f"{said['candidates, mean']} candidates on average, both orders, on {said['device']}"
    cuda = said["device"] != "cpu"
    bound = 2.0 if cuda else 25.0
    return [Row("verifier: one question against its candidates, median ms", found, said["median ms"], bound, bound,
                less=True, note=note)]  # fmt: skip


def failures(wrong: Share, hits: Share, *, max_wrong: float, min_hit: float) -> list[str]:
    """What is wrong with a run, for `ci`: nothing if the list is empty."""
    found = []
    if wrong.rate > max_wrong:
        found.append(f"wrong answers per request served: {wrong}, at most {max_wrong:.2%} allowed")
    if hits.rate < min_hit:
        found.append(f"hit rate: {hits}, at least {min_hit:.2%} demanded")
    return found


def _share(found: Result) -> str:
    return f"{found['rate']:.2%} [{found['low']:.2%}, {found['high']:.2%}]"
