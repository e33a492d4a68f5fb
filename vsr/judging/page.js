"use strict";
const told = JSON.parse(document.getElementById("told").textContent);

// The slider: the right picture lies over the left one and is clipped at the bar.
const stage = document.getElementById("slider");
if (stage) {
  const find = (name) => stage.querySelector(`[data-part="${name}"]`);
  const [item, left, right, zoom, range] = ["item", "left", "right", "zoom", "range"].map(find);
  const [sheet, under, over, bar] = ["sheet", "under", "over", "bar"].map(find);

  const place = (percent) => {
    range.value = percent;
    over.style.clipPath = `inset(0 0 0 ${percent}%)`;
    bar.style.left = `${percent}%`;
  };
  const fill = (select, names, wanted) => {
    select.replaceChildren(...names.map((name) => new Option(name, name)));
    select.value = names.includes(wanted) ? wanted : names[names.length - 1];
  };
  const words = (exhibit, label) => {
    const values = Object.entries(exhibit.values[label] || {}).map(([name, text]) => `${name} ${text}`);
    return [label, ...values].join(" · ");
  };
  const show = () => {
    const exhibit = told.exhibits[Number(item.value)];
    const names = Object.keys(exhibit.pictures);
    fill(left, names, left.value || names[0]);
    fill(right, names, right.value || names[names.length - 1]);
    under.src = exhibit.pictures[left.value];
    over.src = exhibit.pictures[right.value];
    find("left-name").textContent = words(exhibit, left.value);
    find("right-name").textContent = words(exhibit, right.value);
    size();
  };
  const size = () => {
    const [width, height] = told.exhibits[Number(item.value)].size;
    const room = Math.min(stage.clientWidth - 2, width * 4, (window.innerHeight * 0.75 * width) / height);
    const wide = zoom.value === "fit" ? room : width * Number(zoom.value);
    sheet.style.width = `${wide}px`;
    sheet.style.height = `${(wide * height) / width}px`;
  };
  item.replaceChildren(...told.exhibits.map((exhibit, place) => new Option(exhibit.title, place)));
  for (const select of [item, left, right]) select.addEventListener("change", show);
  zoom.addEventListener("change", size);
  window.addEventListener("resize", size);
  range.addEventListener("input", () => place(range.value));
  const drag = (event) => {
    const box = sheet.getBoundingClientRect();
    place(Math.max(0, Math.min(100, ((event.clientX - box.left) / box.width) * 100)));
  };
  sheet.addEventListener("pointerdown", (event) => { sheet.setPointerCapture(event.pointerId); drag(event); });
  sheet.addEventListener("pointermove", (event) => { if (event.buttons || event.pointerType === "mouse") drag(event); });
  show();
  place(50);
}

// The plots: what the lines say at the pointer.
for (const plot of document.querySelectorAll("svg.plot")) {
  const data = told.plots[Number(plot.dataset.plot)];
  const cursor = plot.querySelector(".cursor");
  const figure = plot.closest("figure");
  const [first, last] = [data.seconds[0], data.seconds[data.seconds.length - 1]];
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const part = ((event.clientX - box.left) / box.width - data.left) / (data.right - data.left);
    const wanted = first + part * (last - first);
    let near = 0;
    data.seconds.forEach((second, index) => {
      if (Math.abs(second - wanted) < Math.abs(data.seconds[near] - wanted)) near = index;
    });
    const share = last > first ? (data.seconds[near] - first) / (last - first) : 0.5;
    const x = (data.left + share * (data.right - data.left)) * data.width;
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    figure.querySelector("[data-part=time]").textContent = data.times[near];
    for (const span of figure.querySelectorAll("[data-label]")) span.textContent = data.series[span.dataset.label][near];
  });
}
