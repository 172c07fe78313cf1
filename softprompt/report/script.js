"use strict";
// Filters and sorts the rows of the page; without it they are all there.
(() => {
  const controls = document.getElementById("controls");
  if (!controls) return;
  const [search, source, order, worse, count, list] =
    ["search", "source", "order", "worse", "count", "list"].map((id) => document.getElementById(id));
  const rows = Array.from(list.children, (element) => ({
    element,
    text: element.textContent.toLowerCase(),
    source: element.dataset.source,
    id: element.dataset.id,
    gains: element.dataset,
  }));
  const strongest = controls.dataset.strongest;

  function filter() {
    const wanted = search.value.trim().toLowerCase();
    let shown = 0;
    for (const row of rows) {
      const fits = row.text.includes(wanted)
        && (source.value === "" || row.source === source.value)
        && (!worse.checked || Number(row.gains[strongest]) < 0);
      row.element.hidden = !fits;
      shown += fits;
    }
    count.textContent = `${shown} of ${rows.length} rows`;
  }

  function sort() {
    const [variant, first] = order.value.split(" ");
    const sign = first === "worst" ? 1 : -1;
    rows.sort((a, b) => sign * (a.gains[variant] - b.gains[variant]) || (a.id < b.id ? -1 : 1));
    list.append(...rows.map((row) => row.element));
  }

  function showTarget() {
    const target = rows.find((row) => `#${row.element.id}` === location.hash);
    if (!target || !target.element.hidden) return;
    controls.reset();
    filter();
    sort();
    target.element.scrollIntoView();
  }

  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.addEventListener("input", filter);
  order.addEventListener("input", sort);
  addEventListener("hashchange", showTarget);
  controls.hidden = false;
  // A browser may have kept what was chosen before a reload.
  filter();
  sort();
})();
