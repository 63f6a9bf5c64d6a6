"use strict";
// Shows the values under the pointer, or under a cursor moved with the arrow keys.
for (const plot of document.querySelectorAll(".plot")) {
  const series = JSON.parse(plot.dataset.series);
  const [low, high] = plot.dataset.axes.split(",").map(Number);
  const area = plot.querySelector(".area");
  const cursor = plot.querySelector(".cursor");
  const readout = plot.querySelector(".readout");
  const xs = [...new Set(series.flatMap(([, , points]) => points.map(p => p[0])))].sort((a, b) => a - b);
  let index = -1;
  // Index of the value nearest to x in a sorted list.
  const nearest = (list, x) => {
    let from = 0, to = list.length - 1;
    while (to - from > 1) {
      const middle = (from + to) >> 1;
      if (list[middle] <= x) from = middle; else to = middle;
    }
    return x - list[from] <= list[to] - x ? from : to;
  };
  const number = v => Math.abs(v) >= 1e4 ? Math.round(v).toLocaleString("en-US") : String(Number(v.toPrecision(4)));
  const show = i => {
    index = Math.max(0, Math.min(xs.length - 1, i));
    const x = xs[index];
    const left = high > low ? (x - low) / (high - low) : 0.5;
    cursor.style.left = left * 100 + "%";
    readout.replaceChildren();
    const head = document.createElement("b");
    head.textContent = "step " + x.toLocaleString("en-US");
    readout.append(head);
    for (const [name, colour, points] of series) {
      const point = points[nearest(points.map(p => p[0]), x)];
      const row = document.createElement("div");
      const dot = document.createElement("i");
      const value = document.createElement("b");
      dot.className = colour;
      value.textContent = number(point[1]);
      const where = point[0] === x ? "" : " (step " + point[0].toLocaleString("en-US") + ")";
      row.append(dot, name + where + " ", value);
      readout.append(row);
    }
    cursor.hidden = readout.hidden = false;
    const side = left > 0.5 ? "right" : "left";
    readout.style.left = readout.style.right = "auto";
    readout.style[side] = (side === "left" ? left : 1 - left) * 100 + "%";
    readout.style.margin = "0 .6rem";
  };
  const hide = () => { cursor.hidden = readout.hidden = true; };
  const follow = event => {
    const box = area.getBoundingClientRect();
    show(nearest(xs, low + (event.clientX - box.left) / box.width * (high - low)));
  };
  area.addEventListener("pointermove", follow);
  area.addEventListener("pointerdown", follow);
  area.addEventListener("pointerleave", hide);
  plot.addEventListener("blur", hide);
  plot.addEventListener("keydown", event => {
    const far = Math.ceil(xs.length / 20);
    const to = { ArrowLeft: index - 1, ArrowRight: index + 1, PageUp: index - far, PageDown: index + far, Home: 0, End: xs.length - 1 }[event.key];
    if (event.key === "Escape") hide();
    if (to === undefined) return;
    event.preventDefault();
    show(to);
  });
}
if (navigator.clipboard) {
  for (const block of document.querySelectorAll(".command")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(block.querySelector("code").textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    block.classList.add("has-copy");
    block.append(button);
  }
}
