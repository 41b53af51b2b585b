"""Draws the figures of docs/plots/scale.json. The same figures give the same bytes."""

import io
import re
import statistics

import matplotlib

matplotlib.use("svg")
# Text stays text, which is small and can be searched; names inside of the file are made with a fixed salt.
matplotlib.rcParams.update({"font.sans-serif": ["DejaVu Sans", "Verdana"], "svg.fonttype": "none",
                            "svg.hashsalt": "tollgate", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3,
                            "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 9, "lines.markersize": 4})

from matplotlib import pyplot, ticker  # noqa: E402

# What a thread remembers: the bound TOKEN_CACHE_ENTRIES.
REMEMBERED = 16_384
BLUE, ORANGE, GREY = "#1f5fa8", "#d9730d", "#777777"


def panels(title, *names, x):
    """Panels side by side under one sentence, each with the name of what it shows."""
    figure, axes = pyplot.subplots(1, len(names), figsize=(3.4 * len(names), 3.1), squeeze=False, layout="constrained")
    figure.suptitle(title, fontsize=10)
    for axis, name in zip(axes[0], names):
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axis.xaxis.set_minor_locator(ticker.NullLocator())
        axis.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axis.set_xlabel(x)
        axis.set_ylabel(name)
    return figure, axes[0]


def line(axis, points, x, y, scale=1.0, **style):
    axis.plot([point[x] for point in points], [point[y] * scale for point in points], marker="o", **style)


def from_zero(*axes):
    for axis in axes:
        axis.set_ylim(0, axis.get_ylim()[1] * 1.15)


def plain(axis):
    """A logarithmic axis of heights, with numbers as people write them."""
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.yaxis.set_minor_formatter(ticker.NullFormatter())


def connections(points):
    ends = [point["cpu_us"] for point in points if point["workers"] == 1]
    figure, (cost, rate, wait) = panels(f"A request costs {ends[0]:.1f} µs of processor time with 16 connections "
                                        f"and {ends[-1]:.1f} µs with 10,000",
                                        "processor time for a request (µs)", "requests a second", "99th percentile of times (ms)",
                                        x="connections")
    for workers, colour, name in ((1, BLUE, "1 worker, alone on a processor"),
                                  (2, ORANGE, "2 workers, with load and upstream\non the same 2 processors")):
        some = [point for point in points if point["workers"] == workers]
        line(cost, some, "connections", "cpu_us", color=colour, label=name)
        line(rate, some, "connections", "per_second", color=colour)
        line(wait, some, "connections", "p99_us", 1e-3, color=colour)
    plain(wait)
    from_zero(cost, rate)
    cost.legend(fontsize=7, loc="lower right")
    return figure


def tokens(points):
    hs256, es256 = ([point for point in points if point["algorithm"] == algorithm] for algorithm in ("HS256", "ES256"))
    figure, (cost, wait, memory) = panels(
        f"100,000 tokens in turn cost {hs256[-1]['cpu_us'] - hs256[0]['cpu_us']:.1f} µs more for each request than one with HS256, "
        f"{es256[-1]['cpu_us'] - es256[0]['cpu_us']:.0f} µs more with ES256, and {hs256[-1]['resident_mib'] - hs256[0]['resident_mib']:.0f} MiB",
        "processor time for a request (µs)", "times of requests (ms)", "resident memory (MiB)", x="distinct tokens, each in its turn")
    for some, colour, name in ((hs256, BLUE, "HS256"), (es256, ORANGE, "ES256")):
        line(cost, some, "tokens", "cpu_us", color=colour, label=name)
        line(wait, some, "tokens", "p99_us", 1e-3, color=colour, label=f"{name}, 99th percentile")
        line(wait, some, "tokens", "longest_us", 1e-3, color=colour, linestyle=":", label=f"{name}, longest")
        line(memory, some, "tokens", "resident_mib", color=colour)
    for axis in (cost, wait, memory):
        axis.axvline(REMEMBERED, color=GREY, linestyle="--", linewidth=1)
    cost.text(REMEMBERED * 0.8, cost.get_ylim()[1] * 0.5, "16,384 are\nremembered", fontsize=7, color=GREY, ha="right")
    from_zero(cost, wait, memory)
    cost.legend(fontsize=7, loc="upper left")
    wait.legend(fontsize=7)
    return figure


def routes(points):
    figure, (cost, memory, start) = panels(f"With 10,000 routes a request costs {points[-1]['cpu_us']:.1f} µs of processor time, "
                                           f"with 10 it costs {points[0]['cpu_us']:.1f} µs",
                                           "processor time for a request (µs)", "resident memory (MiB)", "start of the gateway (ms)", x="routes, all in use")
    line(cost, points, "routes", "cpu_us", color=BLUE)
    line(memory, points, "routes", "resident_mib", color=BLUE)
    line(start, points, "routes", "start_ms", color=BLUE)
    from_zero(cost, memory, start)
    return figure


def bodies(points):
    large = [point for point in points if point["bytes"] >= 1 << 10]
    most = max(point["peak_mib"] for point in points)
    figure, (cost, each, memory) = panels(f"Whatever the size of answers, memory stays below {most + 1:.0f} MiB; "
                                          f"a MiB of the largest costs {points[-1]['cpu_us_per_mib']:.0f} µs of processor time",
                                          "processor time for a request (µs)", "processor time for a MiB (µs)", "peak of resident memory (MiB)",
                                          x="size of an answer (bytes), 64 connections")
    line(cost, points, "bytes", "cpu_us", color=BLUE)
    line(each, large, "bytes", "cpu_us_per_mib", color=BLUE)
    line(memory, points, "bytes", "peak_mib", color=BLUE)
    sizes = {1: "1", 1 << 10: "1 Ki", 1 << 15: "32 Ki", 1 << 20: "1 Mi", 100 << 20: "100 Mi"}
    for axis in (cost, each, memory):
        shown = [size for size in sizes if axis is not each or size > 1]
        axis.set_xticks(shown, [sizes[size] for size in shown])
    plain(cost)
    plain(each)
    from_zero(memory)
    return figure


def balance(points):
    most = max(max(point["busiest"]) for point in points) * 100
    usual = max(statistics.median(point["busiest"]) for point in points) * 100
    trials = len(points[0]["busiest"])
    figure, axes = pyplot.subplots(1, 2, figsize=(8.2, 3.3), layout="constrained")
    figure.suptitle(f"Of 2 to 64 connections, the busier of two workers has {usual:.0f} % of the work in the median, {most:.0f} % at most", fontsize=10)
    names = [str(point["connections"]) for point in points]
    shares = [[share * 100 for share in point["busiest"]] for point in points]
    rates = [point["per_second"] for point in points]
    for axis, values, name in zip(axes, (shares, rates), ("share of the busier worker (%)", "requests a second")):
        axis.boxplot(values, whis=(0, 100), widths=0.5, medianprops={"color": ORANGE}, boxprops={"color": BLUE}, whiskerprops={"color": BLUE},
                     capprops={"color": BLUE})
        axis.set_xticks(range(1, len(names) + 1), names)
        axis.set_xlabel(f"connections ({trials} trials; box: half of them, whiskers: all)")
        axis.set_ylabel(name)
    axes[0].set_ylim(48, 102)
    axes[1].set_ylim(bottom=0)
    axes[1].yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.0f}"))
    return figure


def smaller(svg):
    """The same picture without what nobody sees: more than a hundredth of a point, remarks, and which library has drawn it."""
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), svg)
    return re.sub(r"\n\s*", "\n", svg)


def draw(measured, place):
    for name, make in (("connections", connections), ("tokens", tokens), ("routes", routes), ("bodies", bodies), ("balance", balance)):
        if name in measured:
            figure = make(measured[name]["points"])
            drawn = io.StringIO()
            figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
            pyplot.close(figure)
            with open(f"{place}/{name}.svg", "w") as file:
                file.write(smaller(drawn.getvalue()))
