// Hovering a cell shows who holds it; hovering a lane lights up all it holds. A click pins a lane,
// and the address then ends in #lane=5 (or #cell=A.9.3, or #theme=dark), so that it can be sent on.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const cells = all("table.grid td");
  const byLane = Array.from({ length: data.lanes }, () => []);
  const at = new Map();  // "A.0.9.3": operand, matrix, row, col
  for (const td of cells) {
    const table = td.closest("table");
    td.operand = table.dataset.operand;
    td.place = [+table.dataset.matrix, td.parentNode.sectionRowIndex, td.cellIndex - 1];
    td.holders = td.dataset.h.split(" ").map((pair) => pair.split(".").map(Number));
    for (const [lane] of td.holders) byLane[lane].push(td);
    at.set([td.operand, ...td.place].join("."), td);
  }
  const readout = document.querySelector(".readout");
  const file = document.querySelector(".file table");
  const buttons = all(".picker button");
  let pinned = null;  // {lane, cell}
  let lit = [];

  const slot = (operand, element) => {
    const register = Math.floor(element / operand.parts);
    const part = element % operand.parts;
    const name = operand.parts === 1 ? "" : operand.parts === 2 ? [".lo", ".hi"][part] : "." + part;
    return { register, part, text: operand.letter + "[" + register + "]" + name };
  };
  const placeText = (operand, place) =>
    "(" + (operand.matrices > 1 ? place : place.slice(1)).join(",") + ")";

  function light(td, name) {
    td.classList.add(name);
    lit.push([td, name]);
  }
  function clear() {
    for (const [td, name] of lit) td.classList.remove(name);
    lit = [];
    document.body.classList.remove("picking");
  }

  function fill(lane, here) {
    const rows = [];
    for (const operand of data.operands) {
      const held = operand.held[lane];
      for (let register = 0; register * operand.parts < held.length; register++) {
        const parts = held.slice(register * operand.parts, (register + 1) * operand.parts);
        const chosen = (i) => here && here.operand === operand.name && here.element === register * operand.parts + i;
        let spans;
        if (parts.length <= 4) {
          spans = parts.map((place, i) => `<span${chosen(i) ? ' class="here"' : ""}>${placeText(operand, place)}</span>`);
        } else {
          const first = parts[0], last = parts[parts.length - 1];
          const inside = here && here.operand === operand.name && Math.floor(here.element / operand.parts) === register;
          spans = [`<span${inside ? ' class="here"' : ""}>${placeText(operand, first)} … ${placeText(operand, last)}</span>`];
        }
        const title = parts.length <= 4 ? ` title="high bits to the left"` : "";
        rows.push(`<tr${register ? "" : ' class="first"'}><th scope="row">${operand.letters.map((letter) => letter + "[" + register + "]").join(" ")}</th>` +
          `<td><div class="word"${title}>${spans.reverse().join("")}</div></td></tr>`);
      }
    }
    file.innerHTML = `<caption hidden>Registers of lane ${lane}</caption>` + rows.join("");
    const marked = file.querySelector(".here");
    if (marked) marked.scrollIntoView({ block: "nearest" });
  }

  function showLane(lane) {
    clear();
    document.body.classList.add("picking");
    for (const td of byLane[lane]) light(td, "on");
    press(lane);
    const counts = data.operands.map((operand) => `${operand.held[lane].length} of ${operand.name}`);
    readout.innerHTML = `<b>lane ${lane}</b><span>holds ${counts.join(", ")}</span>`;
    fill(lane, null);
  }

  function showCell(td) {
    const [lane, element] = td.holders[0];
    showLane(lane);
    for (const [other] of td.holders.slice(1)) for (const cell of byLane[other]) light(cell, "on");
    light(td, "here");
    const operand = data.operands.find((each) => each.name === td.operand);
    const found = slot(operand, element);
    const low = found.part * operand.bits;
    const axes = operand.axes.slice(-2).map((axis, i) => axis + " " + td.place[i + 1]).join(", ");
    const lanes = td.holders.map(([each]) => each).join(", ");
    const matrix = operand.matrices > 1 ? "[" + td.place[0] + "]" : "";
    readout.innerHTML = `<b>${operand.name}${matrix}[${td.place[1]}][${td.place[2]}] is in lane${td.holders.length > 1 ? "s" : ""} ${lanes}, ${found.text}</b>` +
      `<span>${axes}; bits ${low} to ${low + operand.bits - 1}, element ${element} of the lane</span>`;
    fill(lane, { operand: td.operand, element });
    cross(td);
  }

  // An element of D is a row of A times a column of B.
  function cross(td) {
    if (!data.crossed || !["C", "D"].includes(td.operand)) return;
    const [, row, col] = td.place;
    for (const cell of cells) {
      if (cell.operand === "A" && cell.place[1] === row) light(cell, "dot");
      if (cell.operand === "B" && cell.place[2] === col) light(cell, "dot");
    }
    readout.querySelector("span").textContent += `; made of row ${row} of A and column ${col} of B`;
  }

  function press(lane) {
    for (const [number, button] of buttons.entries()) button.setAttribute("aria-pressed", String(number === lane));
  }
  function idle() {
    clear();
    press(-1);
    readout.innerHTML = "<b>Whose is it?</b><span>Point at a cell, or at a lane below; a click pins it.</span>";
    fill(0, null);
    file.caption.textContent = "Registers of lane 0";
  }
  function restore() {
    if (pinned && pinned.cell) showCell(pinned.cell);
    else if (pinned) showLane(pinned.lane);
    else idle();
  }
  function pin(value, hash) {
    const same = pinned && value && pinned.lane === value.lane && pinned.cell === value.cell;
    pinned = same ? null : value;
    history.replaceState(null, "", pinned ? hash : location.pathname + location.search);
    restore();
  }
  const cellHash = (td) => {
    const place = td.place[0] || data.operands.find((each) => each.name === td.operand).matrices > 1 ? td.place : td.place.slice(1);
    return "#cell=" + [td.operand, ...place].join(".");
  };
  const pinCell = (td) => pin({ lane: td.holders[0][0], cell: td }, cellHash(td));

  document.querySelector("main").addEventListener("pointerover", (event) => {
    const td = event.target.closest("table.grid td");
    const button = event.target.closest(".picker button");
    if (td) showCell(td);
    else if (button) showLane(buttons.indexOf(button));
  });
  document.querySelector("main").addEventListener("pointerout", (event) => {
    if (!event.relatedTarget || !event.relatedTarget.closest || !event.relatedTarget.closest("table.grid td, .picker button")) restore();
  });
  document.querySelector("main").addEventListener("click", (event) => {
    const td = event.target.closest("table.grid td");
    const button = event.target.closest(".picker button");
    if (td) pinCell(td);
    else if (button) pin({ lane: buttons.indexOf(button), cell: null }, "#lane=" + buttons.indexOf(button));
  });
  for (const [number, button] of buttons.entries()) button.addEventListener("focus", () => showLane(number));

  // Arrow keys walk through a matrix that has the focus.
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  for (const table of all("table.grid")) {
    table.addEventListener("keydown", (event) => {
      const step = steps[event.key];
      if (event.key === "Escape") { pinned = null; restore(); }
      if (!step) return;
      event.preventDefault();
      const current = pinned && pinned.cell && pinned.cell.closest("table") === table ? pinned.cell : null;
      const [row, col] = current ? [current.place[1] + step[0], current.place[2] + step[1]] : [0, 0];
      const next = at.get([table.dataset.operand, table.dataset.matrix, row, col].join("."));
      if (next) { pinned = null; pinCell(next); }
    });
  }

  function setTheme(theme) { document.documentElement.dataset.theme = theme; }
  document.getElementById("theme").addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme
      ? document.documentElement.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    setTheme(dark ? "light" : "dark");
  });

  function fromAddress() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    if (wanted.has("theme")) setTheme(wanted.get("theme"));
    pinned = null;
    if (wanted.has("cell")) {
      const parts = wanted.get("cell").split(".");
      const key = parts.length === 3 ? [parts[0], 0, ...parts.slice(1)].join(".") : parts.join(".");
      const td = at.get(key);
      if (td) pinned = { lane: td.holders[0][0], cell: td };
    } else if (wanted.has("lane") && byLane[+wanted.get("lane")]) {
      pinned = { lane: +wanted.get("lane"), cell: null };
    }
    restore();
  }
  addEventListener("hashchange", fromAddress);
  fromAddress();
})();
