/* Draws a chart from each table on the statistics page and collapses the table. Without this file,
   or without Chart.js, the tables stay open. */
"use strict";

(() => {
  const root = document.documentElement;
  const charts = [];

  function colour(name) {
    return getComputedStyle(root).getPropertyValue(name).trim();
  }

  function read(table) {
    const headings = [...table.tHead.rows[0].cells].slice(1);
    const rows = [...table.tBodies[0].rows];
    return {
      labels: rows.map((row) => row.cells[0].textContent),
      series: headings
        .map((heading, index) => ({
          label: heading.textContent,
          tone: heading.dataset.tone,
          values: rows.map((row) => {
            const value = row.cells[index + 1].dataset.value;
            return value === undefined ? null : Number(value);
          }),
          words: rows.map((row) => row.cells[index + 1].textContent),
        }))
        .filter((series) => series.tone !== "none"),
    };
  }

  /* Wraps a label, so that there is room for the bars. */
  function wrap(name) {
    const longest = innerWidth < 480 ? 16 : 22; // characters
    return name.split(" ").reduce((lines, word) => {
      const last = lines.length - 1;
      if (last >= 0 && lines[last].length + word.length < longest) lines[last] += ` ${word}`;
      else lines.push(word);
      return lines;
    }, []);
  }

  function draw(figure) {
    const { kind, unit } = figure.dataset;
    const { labels, series } = read(figure.querySelector("table"));
    const lying = kind === "bars";
    const line = kind === "line";
    const frame = figure.querySelector(".flashcall-canvas");
    frame.hidden = false;
    // Horizontal bars need a line per label; other charts use the height from the CSS.
    if (lying) frame.style.height = `${Math.max(120, 70 + labels.length * 32)}px`;
    const text = colour("--body-fg");
    const faint = colour("--hairline-color");
    const numbers = {
      stacked: !line,
      border: { color: faint },
      beginAtZero: true,
      suggestedMax: unit === "%" ? 100 : undefined,
      ticks: {
        color: text,
        precision: unit ? undefined : 0,
        callback(value) {
          return unit ? `${value.toLocaleString(root.lang)} ${unit}` : value.toLocaleString(root.lang);
        },
      },
      grid: { color: faint },
    };
    const names = {
      stacked: !line,
      border: { color: faint },
      ticks: { color: text, autoSkip: !lying, autoSkipPadding: 8, maxRotation: 0 },
      grid: { display: false },
    };
    const chart = new Chart(frame.querySelector("canvas"), {
      type: line ? "line" : "bar",
      data: {
        labels: lying ? labels.map(wrap) : labels,
        datasets: series.map(({ label, tone, values, words }) => ({
          label,
          words,
          backgroundColor: colour(`--flashcall-chart-${tone}`),
          // Separate stacked bars with the background colour.
          borderColor: line ? colour(`--flashcall-chart-${tone}`) : colour("--body-bg"),
          data: values,
          borderWidth: line ? 2 : { top: lying ? 0 : 1, right: lying ? 1 : 0 },
          pointRadius: labels.length > 10 ? 2 : 3,
          tension: 0.25,
          maxBarThickness: lying ? 20 : 40,
        })),
      },
      options: {
        animation: false,
        responsive: true,
        maintainAspectRatio: false,
        indexAxis: lying ? "y" : "x",
        interaction: { mode: "index", intersect: false, axis: lying ? "y" : "x" },
        scales: lying ? { x: numbers, y: names } : { x: names, y: numbers },
        plugins: {
          legend: {
            display: series.length > 1,
            position: "bottom",
            labels: { color: text, boxWidth: 12, boxHeight: 12 },
          },
          tooltip: {
            filter: (item) => item.raw !== 0,
            callbacks: {
              label: (item) => `${item.dataset.label}: ${item.dataset.words[item.dataIndex]}`,
            },
          },
        },
      },
    });
    charts.push(chart);
  }

  function drawAll() {
    charts.splice(0).forEach((chart) => chart.destroy());
    document.querySelectorAll(".flashcall-figure:has(canvas)").forEach(draw);
  }

  document.addEventListener("DOMContentLoaded", () => {
    if (!window.Chart) return;
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    document.querySelectorAll(".flashcall-figure details").forEach((table) => {
      table.open = false;
    });
    drawAll();
    // Redraw when the theme changes in the admin or in the system.
    new MutationObserver(drawAll).observe(root, { attributeFilter: ["data-theme", "data-bs-theme", "class"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  });
})();
