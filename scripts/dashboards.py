#!/usr/bin/env python3
"""The Grafana dashboard and the alerts: they are what Grafana and Prometheus take, every expression is read by a parser of PromQL,
and asks only for metrics and labels that docs/operations.md lists, in a way that their kind allows.

Usage: scripts/dashboards.py. Needs the Python package promql-parser. Prints the count of checks in the last line.
"""

import json
import os
import re

from harness import Checks

try:
    import promql_parser
except ImportError:
    promql_parser = None

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LEAST = 400
# What Prometheus adds to every sample.
EVERYWHERE = {"job", "instance"}
# What stands for the variables of Grafana while an expression is read.
VARIABLES = {"$__rate_interval": "5m", "$__range": "1h", "$__interval": "1m", "$instance": "x", "$route": "x", "$job": "x"}
# The version of dashboards that Grafana 10 and later read.
SCHEMA = 36
COLUMNS = 24
check = Checks()


def read(path):
    with open(os.path.join(ROOT, path)) as file:
        return file.read()


def metrics():
    """Name, kind and labels, as the documentation has them."""
    rows = re.findall(r"^\| `((?:tollgate|process)_\w+)` \| (\w+) \| ([^|]*) \|", read("docs/operations.md"), re.M)
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def selectors(node):
    """Every selector of an expression, with the functions and aggregations that it stands in, outermost first."""
    return list(walk(node, []))


def walk(node, above):
    kind = type(node).__name__
    if kind == "VectorSelector":
        yield node, above
    elif kind == "MatrixSelector":
        yield from walk(node.vector_selector, [*above, "[]"])
    elif kind == "Call":
        for argument in node.args:
            yield from walk(argument, [*above, node.func.name])
    elif kind == "AggregateExpr":
        yield from walk(node.expr, [*above, str(node.op)])
    elif kind == "BinaryExpr":
        yield from walk(node.lhs, above)
        yield from walk(node.rhs, above)
    elif kind in ("ParenExpr", "UnaryExpr", "SubqueryExpr"):
        yield from walk(node.expr, above)


def check_expression(where, text, known):
    """Checks an expression; returns the labels that what comes of it may have."""
    for name, value in VARIABLES.items():
        text = text.replace(name, value)
    check(f"{where}: no variable is left", "$" not in text, text)
    try:
        tree = promql_parser.parse(text)
    except ValueError as error:
        check(f"{where} is PromQL", False, f"{text}: {error}")
        return set()
    labels = set()
    for selector, above in selectors(tree):
        name = selector.name
        if name == "up":
            continue
        family = name.removesuffix("_bucket") if name not in known else name
        kind, own = known.get(family, (None, set()))
        if not check(f"{where}: {name} is a metric", kind is not None):
            continue
        own = own | EVERYWHERE | ({"le"} if name != family else set())
        labels |= own
        asked = {matcher.name for matcher in selector.matchers.matchers}
        check(f"{where}: {name} has the labels that are asked for", asked <= own, asked - own)
        check(f"{where}: buckets are of histograms, and of one only buckets are asked for", (kind == "histogram") == (name != family), name)
        if kind == "histogram":
            check(f"{where}: of buckets a quantile is asked for", "histogram_quantile" in above, above)
        ranged = "[]" in above
        check(f"{where}: a counter is asked how fast it rises, and a gauge is not", ranged == (kind in ("counter", "histogram")), f"{name} is a {kind}: {above}")
    for grouped in re.findall(r"\bby \(([^)]*)\)", text):
        names = set(re.split(r",\s*", grouped))
        check(f"{where}: what is grouped by is a label", names <= labels, names - labels)
        labels = names if "by (" in text else labels
    return labels


def dashboard(known):
    board = json.loads(read("deploy/grafana-dashboard.json"))
    check("it has a name and an id that links keep", board["title"] and re.fullmatch(r"[\w-]{1,40}", board["uid"]))
    check("it has no number of some other installation", board.get("id") is None, board.get("id"))
    check("its schema is one that Grafana reads", board["schemaVersion"] >= SCHEMA, board["schemaVersion"])
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    check("the data source is chosen, not fixed", variables["datasource"]["type"] == "datasource" and variables["datasource"]["query"] == "prometheus")
    for name, variable in variables.items():
        if variable["type"] == "query":
            call = re.fullmatch(r"label_values\((\w+)(?:\{[^}]*\})?, ?(\w+)\)", variable["query"]["query"])
            if check(f"variable {name} asks for the values of a label", call is not None, variable["query"]):
                kind, labels = known.get(call[1], (None, set()))
                check(f"variable {name}: they exist", kind is not None and call[2] in labels | EVERYWHERE, call[0])
    panels = [panel for outer in board["panels"] for panel in (outer, *outer.get("panels", []))]
    check.equal("every panel has an id of its own", len(panels), len({panel["id"] for panel in panels}))
    taken = {}
    for panel in panels:
        title, place = panel["title"], panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        check(f"{title} stands within the columns", place["x"] >= 0 and place["w"] > 0 and place["x"] + place["w"] <= COLUMNS, place)
        check(f"{title} stands on no other", not cells & taken.keys(), {taken[cell] for cell in cells & taken.keys()})
        taken |= dict.fromkeys(cells, title)
        if panel["type"] == "row":
            continue
        check(f"{title} is of a kind that every Grafana has", panel["type"] in ("timeseries", "stat", "table", "gauge", "bargauge", "barchart", "heatmap", "text"), panel["type"])
        check.equal(f"{title} asks the data source that is chosen", {"type": "prometheus", "uid": "${datasource}"}, panel["datasource"])
        targets = panel["targets"]
        check(f"{title}: each query has a letter of its own", targets and len({target["refId"] for target in targets}) == len(targets))
        unit = panel["fieldConfig"]["defaults"].get("unit")
        check(f"{title} has a unit", bool(unit), unit)
        for target in targets:
            labels = check_expression(f"{title} {target['refId']}", target["expr"], known)
            named = set(re.findall(r"\{\{\s*(\w+)\s*\}\}", target.get("legendFormat") or ""))
            check(f"{title}: what the legend names is a label", named <= labels, named - labels)
    used = set(re.findall(r"\$(\w+)", json.dumps(board))) - {"__rate_interval", "__range", "__interval", "__all"}
    check("every variable that is used is there", used <= variables.keys(), used - variables.keys())


def alerts(known):
    text = read("deploy/prometheus-rules.yml")
    # The file is simple enough to be read without a parser of YAML, which Python does not bring along.
    found = re.findall(r"- alert: (\w+)\n\s+expr: (?:\|\n((?:\s{10,}.*\n)+)|(.*)\n)", text)
    check.equal("every alert is read", text.count("- alert:"), len(found))
    for name, block, line in found:
        check_expression(name, (block or line).strip(), known)


if promql_parser is None:
    print("promql-parser is not installed: the expressions were not read\n0 passed, 0 failed")
    raise SystemExit(0)
known = metrics()
check("the documentation lists the metrics", len(known) > 40, len(known))
check.section("dashboard", dashboard, known)
check.section("alerts", alerts, known)
check.finish(LEAST)
