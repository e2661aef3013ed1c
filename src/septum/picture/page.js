"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const [NAME, OF, KIND, LABEL] = [0, 1, 2, 3];
  const [SOURCE, TARGET, MECHANISM, OPERATION, STRENGTH, CHANGE, RULE] = [0, 1, 2, 3, 4, 5, 6];
  const MOST = 200;
  const get = (id) => document.getElementById(id);
  const svg = document.querySelector("#picture svg");
  const name = (place) => data.nodes[place][NAME];
  const home = (place) => data.nodes[place][OF];
  const realm = (place) => data.realms[place] || "platform";
  const elements = (selector) => [...svg.querySelectorAll(selector)];
  const shown = { text: "", realm: null, change: "*", mechanisms: new Set(data.edges.map((edge) => edge[MECHANISM])) };

  const make = (name, text, parent) => {
    const element = document.createElement(name);
    element.textContent = text;
    parent.append(element);
    return element;
  };

  // Filters

  const fits = (edge) =>
    shown.mechanisms.has(edge[MECHANISM]) &&
    (shown.change === "*" || edge[CHANGE] === shown.change || (shown.change === "changed" && edge[CHANGE] !== "")) &&
    (shown.realm === null || home(edge[SOURCE]) === shown.realm || home(edge[TARGET]) === shown.realm);

  const found = (...texts) => shown.text === "" || texts.some((text) => text.toLowerCase().includes(shown.text));

  const matches = (edge) => found(name(edge[SOURCE]), name(edge[TARGET]), edge[OPERATION], data.rules[edge[RULE]]);

  const apply = () => {
    const meets = new Set();
    let count = 0;
    for (const edge of data.edges) {
      if (fits(edge) && matches(edge)) {
        count += 1;
        meets.add(edge[SOURCE]).add(edge[TARGET]);
      }
    }
    for (const element of elements(".line")) {
      const edges = data.lines[element.dataset.line].map((place) => data.edges[place]).filter(fits);
      element.classList.toggle("gone", edges.length === 0);
      element.classList.toggle("dim", !edges.some(matches));
    }
    for (const element of elements(".node")) {
      const place = Number(element.dataset.node);
      const node = data.nodes[place];
      const named = found(node[NAME], node[LABEL], realm(node[OF]));
      const inside = shown.realm === null || node[OF] === shown.realm;
      const touched = meets.has(place);
      element.classList.toggle("dim", !(touched || (inside && named)));
      element.classList.toggle("chosen", shown.text !== "" && named);
    }
    get("count").textContent = `${count} of ${data.edges.length} ways`;
  };

  // The rules of what was clicked

  const tell = (title, places, about) => {
    const panel = get("panel");
    panel.replaceChildren();
    make("h2", title, panel);
    if (about) make("p", about, panel);
    const edges = places.map((place) => data.edges[place]).filter(fits);
    make("p", edges.length === 1 ? "1 way" : `${edges.length} ways`, panel);
    const list = make("ul", "", panel);
    for (const edge of edges.slice(0, MOST)) {
      const item = make("li", "", list);
      item.className = edge[CHANGE];
      make("b", `${edge[CHANGE]} ${name(edge[SOURCE])} → ${name(edge[TARGET])}`.trim(), item);
      make("div", `${edge[MECHANISM]}: ${edge[OPERATION]} (${edge[STRENGTH]})`, item);
      if (data.rules[edge[RULE]]) make("code", data.rules[edge[RULE]], item);
    }
    if (edges.length > MOST) make("p", `and ${edges.length - MOST} more: search or filter to see them`, panel);
  };

  const all = (test) => data.edges.flatMap((edge, place) => (test(edge) ? [place] : []));

  const choose = (element) => {
    for (const other of elements(".chosen")) other.classList.remove("chosen");
    element.classList.add("chosen");
    const { line, node, realm: box } = element.dataset;
    if (line !== undefined) {
      tell(element.querySelector("title").textContent, data.lines[line]);
    } else if (node !== undefined) {
      const place = Number(node);
      const [title, of, kind, label] = data.nodes[place];
      const about = [kind, `of ${realm(of)}`, label].filter(Boolean).join(", ");
      tell(title, all((edge) => edge[SOURCE] === place || edge[TARGET] === place), about);
    } else {
      const place = Number(box);
      tell(realm(place), all((edge) => home(edge[SOURCE]) === place || home(edge[TARGET]) === place));
    }
  };

  // Moving about

  const whole = svg.viewBox.baseVal;
  let view = { x: whole.x, y: whole.y, width: whole.width, height: whole.height };
  const start = { ...view };
  const look = () => svg.setAttribute("viewBox", `${view.x} ${view.y} ${view.width} ${view.height}`);
  const scale = () => Math.max(view.width / svg.clientWidth, view.height / svg.clientHeight);

  svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    const factor = Math.min(4, Math.max(0.25, Math.exp(event.deltaY / 500)));
    const box = svg.getBoundingClientRect();
    const [px, py] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    view.x += view.width * px * (1 - factor);
    view.y += view.height * py * (1 - factor);
    view.width *= factor;
    view.height *= factor;
    look();
  }, { passive: false });

  let drag = null;
  svg.addEventListener("pointerdown", (event) => {
    drag = { x: event.clientX, y: event.clientY, moved: false };
  });
  svg.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    if (!drag.moved && Math.hypot(dx, dy) < 4) return;
    drag = { x: event.clientX, y: event.clientY, moved: true };
    view.x -= dx * scale();
    view.y -= dy * scale();
    look();
  });
  window.addEventListener("pointerup", () => setTimeout(() => { drag = null; }));
  svg.addEventListener("click", (event) => {
    if (drag && drag.moved) return;
    const element = event.target.closest(".line, .node, .box");
    if (element) choose(element);
  });

  // Controls

  get("search").addEventListener("input", (event) => {
    shown.text = event.target.value.trim().toLowerCase();
    apply();
  });
  data.realms.forEach((_, place) => { make("option", realm(place), get("realm")).value = place; });
  get("realm").addEventListener("change", (event) => {
    shown.realm = event.target.value === "*" ? null : Number(event.target.value);
    apply();
  });
  for (const mechanism of [...shown.mechanisms].sort()) {
    const label = make("label", "", get("mechanisms"));
    const box = make("input", "", label);
    box.type = "checkbox";
    box.checked = true;
    box.value = mechanism;
    label.append(` ${mechanism} `);
    box.addEventListener("change", () => {
      if (box.checked) shown.mechanisms.add(mechanism);
      else shown.mechanisms.delete(mechanism);
      apply();
    });
  }
  get("change").hidden = !data.compared;
  get("change").addEventListener("change", (event) => {
    shown.change = event.target.value;
    apply();
  });
  get("whole").addEventListener("click", () => {
    view = { ...start };
    look();
  });
  apply();
})();
