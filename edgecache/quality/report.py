"""The report: one JSON file, one page of HTML that needs nothing else, its figures as PNG. Judges nothing."""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

Result = Mapping[str, Any]
Figures = Mapping[str, tuple[str, bytes]]

_CSS: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; } h3 { margin-top: 1.5rem; }
table { border-collapse: collapse; margin: 0.8rem 0; font-size: 0.9rem; display: block; overflow-x: auto; }
th, td { text-align: left; padding: 0.25rem 0.7rem; border-bottom: 1px solid #e3e3e3; vertical-align: top; }
th { border-bottom: 2px solid #999; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
.yes { color: #07603a; font-weight: 600; } .no { color: #a30000; font-weight: 600; }
figure { margin: 1rem 0; } svg { max-width: 100%; height: auto; } p.note { color: #555; }
@media (prefers-color-scheme: dark) { figure { background: #fff; } }
"""
_DEFINITION: Final = (
    "The wrong-hit rate is wrong answers per request served, hit or miss. Intervals are 95 %: Wilson's for shares, "
    "Newcombe's for differences of shares, Hanley and McNeil's for areas under a curve."
)


def write(result: Result, figures: Figures, out: Path) -> Path:
    """Write `report.json`, `report.html` and the figures into `out`; returns the page."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, (_, png) in figures.items():
        (out / f"{name}.png").write_bytes(png)
    page = out / "report.html"
    page.write_text(html(result, figures), encoding="utf-8")
    return page


def html(result: Result, figures: Figures) -> str:
    """The page."""
    body = "\n".join(_sections(result, {name: svg for name, (svg, _) in figures.items()}))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>edgecache: right answers</title>'
        f"<style>{_CSS}</style></head>\n<body>\n<h1>Right answers: edgecache and its peers</h1>\n"
        f'<p class="note">{escape(_DEFINITION)}</p>\n{body}\n</body></html>\n'
    )


def _sections(result: Result, svg: Mapping[str, str]) -> Iterable[str]:
    if result.get("table"):
        yield "<h2>What it must reach</h2>" + demands(result["table"])
    for name, stream in result.get("streams", {}).items():
        yield f"<h2>{escape(name)}</h2>" + _stream(name, stream, svg)
    if result.get("orders"):
        yield "<h2>Budgets in random orders</h2>" + _figure(svg, "orders") + _orders(result["orders"])
    if result.get("entries"):
        yield "<h2>Errors against entries</h2>" + _figure(svg, "entries") + _entries(result["entries"])
    if result.get("pairs"):
        yield "<h2>Pairs</h2>" + _pairs(result["pairs"], svg)
    if result.get("conversations"):
        yield "<h2>Conversations</h2>" + nested(result["conversations"])
    if result.get("datasets"):
        yield "<h2>Data</h2>" + "".join(table(part) for part in result["datasets"].values())
    for name in ("verifier", "options", "environment"):
        if result.get(name):
            yield f"<h2>{name.capitalize()}</h2>" + nested(result[name])


def demands(rows: Sequence[Result]) -> str:
    """The table of what is demanded, with a word on each."""
    return table(
        [
            {
                "measure": row["measure"],
                "found": row["found"],
                "must": row["must"],
                "aim": row["aim"],
                "": "aim reached" if row["meets aim"] else "reached" if row["meets must"] else "FALLS SHORT",
                "note": row["note"],
            }
            for row in rows
        ]
    )


def _stream(name: str, stream: Result, svg: Mapping[str, str]) -> str:
    columns = [
        {"policy": each["name"], "": f"did not run: {each['error']}"}
        if "error" in each
        else {
            "policy": each["name"],
            "requests": each["requests"],
            "hits": share(each["hits"]),
            "wrong per request": share(each["wrong"]),
            "wrong per hit": share(each["wrong of hits"]),
            "exact / identical / semantic": _tiers(each),
            "entries": each.get("entries", "-"),
            "own estimate": _estimate(each.get("estimate")),
            "saved": f"{each['saved']['share of the bill']:.1%} of the bill" if "saved" in each else "-",
        }
        for each in stream["columns"]
    ]
    figures = "".join(_figure(svg, f"{name}-{kind}") for kind in ("tradeoff", "tiers", "course"))
    curves = "".join(
        f"<h3>{escape(curve)}</h3>"
        + table(
            [
                {"setting": point["setting"], "hits": share(point["hits"]), "wrong per request": share(point["wrong"])}
                for point in points
            ]
        )
        for curve, points in stream["curves"].items()
    )
    return nested(stream["about"]) + figures + table(columns) + curves


def _tiers(each: Result) -> str:
    if "tiers" not in each:
        return "-"
    return " / ".join(f"{each['tiers'][tier]['hits']['rate']:.2%}" for tier in ("exact", "identical", "semantic"))


def _estimate(said: Result | None) -> str:
    return f"{said['rate']:.2%} [{said['low']:.2%}, {said['high']:.2%}]" if said and said["hits"] else "-"


def _orders(orders: Mapping[str, Sequence[Result]]) -> str:
    return table(
        [
            {
                "stream": name,
                "budget": f"{row['budget']:.1%}",
                "orders within it": f"{row['kept']['count']} of {row['kept']['total']}",
                "share": share(row["kept"]),
                "hit rate": f"{row['hit rate']:.2%}",
                "wrong per request, mean": f"{row['wrong rate']:.3%}",
                "worst": f"{row['worst']:.3%}",
            }
            for name, rows in orders.items()
            for row in rows
        ]
    )


def _entries(entries: Result) -> str:
    rows = []
    for row in entries["rows"]:
        at = {
            f"{each['entries']:,} entries": f"{share(each['wrong'])} at {each['hits']['rate']:.1%} hits"
            for each in row["sizes"]
        }
        growth = row["growth"]
        change = f"{growth['value']:+.2%} [{growth['low']:+.2%}, {growth['high']:+.2%}]"
        rows.append({"policy": row["name"], **at, "growth, first to last": change, "flat": row["flat"]})
    return f'<p class="note">{escape(entries["note"])}</p>' + table(rows)


def _pairs(pairs: Result, svg: Mapping[str, str]) -> str:
    ranked = [
        {
            "set": name,
            "pairs": part["pairs"],
            "signal": signal,
            "AUC": f"{said['auc']['value']:.4f} [{said['auc']['low']:.4f}, {said['auc']['high']:.4f}]",
            "average precision": f"{said['average precision']:.4f}",
            "recall at 1 % false": share(said["recall at 1 % false"]),
            "recall at 5 % false": share(said["recall at 5 % false"]),
            "note": part["note"],
        }
        for name, part in pairs["sets"].items()
        for signal, said in part["signals"].items()
    ]
    served = [
        {"set": name, "pairs that": label} | {rule: share(found) for rule, found in shares.items()}
        for name, part in pairs["sets"].items()
        for label, shares in part["served"].items()
    ]
    templates = [
        {"template": each["template"], "must match": each["must match"]}
        | {rule: f"{found['rate']:.1%}" for rule, found in each["served"].items()}
        | {f"AUC, {name}": value for name, value in (each["auc against real duplicates"] or {}).items()}
        for each in sorted(pairs["templates"], key=lambda each: each["must match"])
    ]
    figures = _figure(svg, "pairs-roc") + _figure(svg, "pairs-precision")
    return (
        figures + table(ranked) + "<h3>Served</h3>" + table(served) + "<h3>CheckList templates</h3>" + table(templates)
    )


def share(found: Result) -> str:
    """A share with its interval."""
    return f"{found['rate']:.2%} [{found['low']:.2%}, {found['high']:.2%}]"


def table(rows: Sequence[Result]) -> str:
    """Rows as an HTML table; columns in order of first sight."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(_cell(row.get(name, "")) for name in names) + "</tr>\n" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def nested(found: Any) -> str:
    """Anything JSON-compatible: mappings as tables of name and value, a mapping with `rate` as a share."""
    if isinstance(found, Mapping):
        if {"rate", "low", "high"} <= found.keys():
            return escape(share(found))
        rows = "".join(
            f"<tr><th>{escape(str(name))}</th><td>{nested(value)}</td></tr>" for name, value in found.items()
        )
        return f"<table><tbody>{rows}</tbody></table>"
    if isinstance(found, Sequence) and not isinstance(found, str):
        if found and all(isinstance(each, Mapping) for each in found):
            return table(found)
        return escape(", ".join(map(str, found)))
    return escape(_plain(found))


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return f'<td class="{"yes" if value else "no"}">{"yes" if value else "no"}</td>'
    if isinstance(value, int | float):
        return f'<td class="n">{escape(_plain(value))}</td>'
    if isinstance(value, Mapping | Sequence) and not isinstance(value, str):
        return f"<td>{nested(value)}</td>"
    marked = {"reached": "yes", "aim reached": "yes", "FALLS SHORT": "no"}.get(str(value))
    return f'<td class="{marked}">{value}</td>' if marked else f"<td>{escape(_plain(value))}</td>"


def _plain(value: Any) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _figure(svg: Mapping[str, str], name: str) -> str:
    return f"<figure>{svg[name]}</figure>" if name in svg else ""
