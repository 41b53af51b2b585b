"use strict";
// What the page shows comes from api/overview; what came before is kept here, so that rates and percentiles are those of
// the last seconds. Text is only ever set as text. The token stays in this variable and is never stored.
(() => {
  const EVERY_MS = 2000, POINTS = 150, SVG = "http://www.w3.org/2000/svg";
  const COLOURS = ["#2f6fdb", "#d9822b", "#2f9e63", "#b2365f", "#7a5cc7", "#5d7b8a", "#a88a13", "#1593a5"];
  const by = (id) => document.getElementById(id);
  const history = [];
  let token = null, previous = null;

  const tell = (id, value) => { by(id).textContent = value; };
  const show = (id, shown) => { by(id).hidden = !shown; };
  const count = (value) => value >= 1e6 ? (value / 1e6).toFixed(1) + " M" : value >= 1e4 ? (value / 1e3).toFixed(1) + " k" : String(value);
  const rate = (value) => value === 0 ? "0" : value < 10 ? value.toFixed(1) : count(Math.round(value));
  const ms = (seconds) => seconds === null ? "–" : seconds < 0.001 ? Math.round(seconds * 1e6) + " µs" : seconds < 1 ? (seconds * 1e3).toPrecision(3) + " ms" : seconds.toFixed(1) + " s";
  const date = (time) => new Date(time).toISOString().replace("T", " ").slice(0, 19);
  const sum = (values) => Object.values(values).reduce((total, value) => total + value, 0);
  const minus = (now, before) => now.map((value, index) => value - (before ? before[index] || 0 : 0));
  const added = (lists) => lists.reduce((total, list) => total.map((value, index) => value + (list[index] || 0)), new Array(32).fill(0));

  // Bucket n holds what took less than 2^n microseconds, and not less than half of that.
  function quantile(buckets, share) {
    const all = buckets.reduce((total, value) => total + value, 0);
    if (all <= 0) return null;
    let below = 0;
    for (let index = 0; index < buckets.length; index += 1) {
      const inside = buckets[index];
      if (inside > 0 && below + inside >= all * share) {
        const end = 2 ** index / 1e6, start = index === 0 ? 0 : end / 2;
        return start + (end - start) * (all * share - below) / inside;
      }
      below += inside;
    }
    return null;
  }

  function row(body, cells) {
    const line = document.createElement("tr");
    for (const cell of cells) {
      const field = document.createElement("td");
      if (cell instanceof Node) field.append(cell);
      else if (typeof cell === "object") { field.textContent = cell.text; field.className = cell.kind; }
      else field.textContent = cell;
      line.append(field);
    }
    body.append(line);
  }
  const number = (text) => ({ text, kind: "number" });

  function series(points, of) {
    const names = new Map();
    points.forEach((point) => Object.entries(of(point)).forEach(([name, value]) => names.set(name, (names.get(name) || 0) + value)));
    return [...names.entries()].sort((one, other) => other[1] - one[1]).slice(0, COLOURS.length).map(([name]) => name).sort();
  }

  function chart(name, of, form) {
    const svg = by("chart-" + name), legend = by("legend-" + name);
    const width = svg.clientWidth || 400, height = 150, top = 14;
    const names = series(history, of);
    const most = Math.max(1e-9, ...history.flatMap((point) => names.map((key) => of(point)[key] || 0)));
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren();
    const line = document.createElementNS(SVG, "line");
    for (const [key, value] of [["x1", 0], ["x2", width], ["y1", top], ["y2", top]]) line.setAttribute(key, value);
    const label = document.createElementNS(SVG, "text");
    label.setAttribute("x", 2); label.setAttribute("y", top - 3); label.textContent = form(most);
    svg.append(line, label);
    legend.replaceChildren();
    names.forEach((key, index) => {
      const path = document.createElementNS(SVG, "polyline");
      path.setAttribute("points", history.map((point, place) => {
        const x = width - (history.length - 1 - place) * width / (POINTS - 1);
        return `${x.toFixed(1)},${(height - (height - top) * (of(point)[key] || 0) / most).toFixed(1)}`;
      }).join(" "));
      path.setAttribute("stroke", COLOURS[index]);
      svg.append(path);
      const item = document.createElement("li");
      item.style.setProperty("--series", COLOURS[index]);
      item.textContent = `${key} ${form(of(history[history.length - 1])[key] || 0)}`;
      legend.append(item);
    });
  }

  function perSecond(now, before, seconds) {
    const rates = {};
    for (const [name, value] of Object.entries(now)) rates[name] = Math.max(0, value - ((before && before[name]) || 0)) / seconds;
    return rates;
  }

  function all(overview, member) {
    const total = {};
    overview.routes.forEach((route) => Object.entries(route[member]).forEach(([name, value]) => { total[name] = (total[name] || 0) + value; }));
    return total;
  }

  function draw(now) {
    const badge = by("state");
    badge.textContent = now.ready ? "ready" : "not ready";
    badge.className = "badge " + (now.ready ? "good" : "bad");
    tell("facts", `version ${now.version} · ${now.workers} workers · since ${date(now.began * 1000)} UTC`);
    tell("flight", count(now.in_flight)); tell("connections", count(now.connections)); tell("streams", count(sum(now.streams)));
    show("sessions-off", !now.sessions);
    show("sign-in", now.sessions && token === null);
    const seconds = previous ? Math.max(0.001, (now.now_ms - previous.now_ms) / 1000) : null;
    if (previous && now.began === previous.began) {
      const codes = perSecond(all(now, "requests"), all(previous, "requests"), seconds);
      const reasons = perSecond(all(now, "refusals"), all(previous, "refusals"), seconds);
      const buckets = minus(added(now.routes.map((route) => route.buckets)), added(previous.routes.map((route) => route.buckets)));
      const own = minus(now.overhead, previous.overhead);
      const point = { codes, reasons, p50: quantile(buckets, 0.5), p99: quantile(buckets, 0.99), own99: quantile(own, 0.99) };
      history.push(point);
      if (history.length > POINTS) history.shift();
      tell("rate", rate(sum(codes))); tell("refused", rate(sum(reasons)));
      tell("p50", ms(point.p50)); tell("p99", ms(point.p99)); tell("own99", ms(point.own99));
      chart("requests", (each) => each.codes, rate);
      chart("duration", (each) => ({ p50: (each.p50 || 0) * 1e3, p99: (each.p99 || 0) * 1e3 }), (value) => value.toPrecision(2));
      chart("refusals", (each) => Object.fromEntries(Object.entries(each.reasons).filter(([, value]) => value > 0)), rate);
    }
    tables(now, seconds);
    previous = now;
  }

  function tables(now, seconds) {
    const before = (list, name) => previous && list(previous).find((entry) => entry.name === name);
    const routes = by("routes");
    routes.replaceChildren();
    for (const route of now.routes) {
      const old = before((overview) => overview.routes, route.name);
      const requests = sum(route.requests), rates = old ? (requests - sum(old.requests)) / seconds : 0;
      const recent = quantile(minus(route.buckets, old && old.buckets), 0.99);
      const exposure = document.createElement("span");
      exposure.textContent = route.exposure;
      exposure.className = "badge " + ({ required: "good", optional: "warn", public: "bad" }[route.auth] || "");
      row(routes, [route.name || "(no route)", route.host, { text: route.path, kind: "mono" }, route.methods, exposure, route.upstream,
        number(count(requests)), number(rate(rates)), number(ms(recent === null ? quantile(route.buckets, 0.99) : recent)), number(count(sum(route.refusals)))]);
    }
    const upstreams = by("upstreams");
    upstreams.replaceChildren();
    for (const upstream of now.upstreams) {
      const old = before((overview) => overview.upstreams, upstream.name);
      const rates = old ? (sum(upstream.requests) - sum(old.requests)) / seconds : 0;
      upstream.targets.forEach((target, index) => {
        const health = document.createElement("span");
        health.textContent = target.health; health.className = "badge " + ({ healthy: "good", ejected: "warn", unhealthy: "bad" }[target.health] || "");
        row(upstreams, [index === 0 ? upstream.name : "", { text: target.target, kind: "mono" }, health, number(count(target.connections)), number(count(target.waiting)),
          number(index === 0 ? rate(rates) : ""), number(index === 0 ? ms(quantile(minus(upstream.buckets, old && old.buckets), 0.99)) : "")]);
      });
    }
    show("certificates-section", now.certificates.length > 0);
    const certificates = by("certificates");
    certificates.replaceChildren();
    for (const certificate of now.certificates) {
      const days = (certificate.not_after - now.now_ms / 1000) / 86400;
      row(certificates, [certificate.hosts, { text: `${date(certificate.not_after * 1000)} UTC, in ${Math.floor(days)} days`, kind: days < 14 ? "bad" : "" }]);
    }
  }

  async function ask(path, options = {}) {
    const headers = { "X-Tollgate-Admin": "1", ...(token === null ? {} : { Authorization: "Bearer " + token }), ...options.headers };
    const answer = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
    if (!answer.ok) throw Object.assign(new Error(`${path}: ${answer.status}`), { status: answer.status });
    return answer.json();
  }

  async function poll() {
    try {
      draw(await ask("api/overview"));
      show("trouble", false);
    } catch (error) {
      const refused = error.status === 401;
      show("trouble", !refused); tell("trouble", `The gateway does not answer: ${error.message}`);
      if (refused) { show("sign-in", true); show("sessions-off", false); tell("state", "sign in"); }
    }
    setTimeout(poll, EVERY_MS);
  }

  async function sessions() {
    try {
      const listed = (await ask("api/sessions")).sessions;
      const body = by("sessions");
      body.replaceChildren();
      for (const session of listed) {
        const button = document.createElement("button");
        button.type = "button"; button.textContent = "Revoke";
        button.addEventListener("click", () => revoke(session.sid, button));
        row(body, [{ text: session.sid, kind: "mono" }, session.user, date(session.started_at_ms), date(session.last_used_at_ms), date(session.expires_at_ms), button]);
      }
      tell("sessions-count", `${listed.length} that go on`);
      show("sessions-trouble", false); show("sessions-shown", true); show("sign-in", false);
      return true;
    } catch (error) {
      if (error.status === 401) signOut();
      show("sessions-trouble", true);
      tell("sessions-trouble", error.status === 401 ? "This token is not the admin token." : error.message);
      return false;
    }
  }

  async function refusals() {
    try {
      const listed = (await ask("api/refusals")).refusals;
      const body = by("refusals");
      body.replaceChildren();
      for (const one of listed) {
        const rule = one.rules.find((each) => each.refuses !== null);
        row(body, [date(one.at_ms), { text: `${one.method} ${one.host}${one.path}`, kind: "mono" }, one.user || "", one.route || "(no route)",
          number(one.status === null ? "none" : String(one.status)), one.reason, rule ? rule.rule : one.cause || one.detail || "", { text: one.request_id, kind: "mono" }]);
      }
      tell("refusals-count", `the last ${listed.length}`);
      show("refusals-section", true);
    } catch (error) {
      show("sessions-trouble", true); tell("sessions-trouble", error.message);
    }
  }

  async function revoke(sid, button) {
    button.disabled = true;
    try {
      await ask("api/sessions/revoke", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ sid }) });
      await sessions();
    } catch (error) {
      button.disabled = false;
      show("sessions-trouble", true); tell("sessions-trouble", error.message);
    }
  }

  function signOut() {
    token = null;
    by("sessions").replaceChildren(); by("refusals").replaceChildren();
    show("sessions-shown", false); show("refusals-section", false); show("sign-in", true);
  }

  by("sign-in").addEventListener("submit", async (event) => {
    event.preventDefault();
    token = by("token").value.trim();
    by("token").value = "";
    if (await sessions()) await refusals();
  });
  by("sign-out").addEventListener("click", signOut);
  by("reload-sessions").addEventListener("click", sessions);
  by("reload-refusals").addEventListener("click", refusals);
  poll();
})();
