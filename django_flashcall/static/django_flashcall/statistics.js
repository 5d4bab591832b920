/* Draws each table of the statistics as a chart, and folds the table away. Without this file, or
   without Chart.js, the tables stay as they are. */
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

  function paint(chart) {
    const text = colour("--body-fg");
    const lines = colour("--hairline-color");
    for (const dataset of chart.data.datasets) {
      const tone = colour(`--flashcall-chart-${dataset.tone}`);
      dataset.backgroundColor = tone;
      dataset.borderColor = chart.config.type === "line" ? tone : colour("--body-bg");
    }
    chart.options.plugins.legend.labels.color = text;
    for (const scale of Object.values(chart.options.scales)) {
      scale.ticks.color = text;
      scale.grid.color = lines;
      scale.border = { color: lines };
    }
    chart.update("none");
  }

  function draw(figure) {
    const { kind, unit } = figure.dataset;
    const { labels, series } = read(figure.querySelector("table"));
    const lying = kind === "bars";
    const line = kind === "line";
    const frame = figure.querySelector(".flashcall-canvas");
    frame.hidden = false;
    // Lying bars need room for each name; others fill the frame that the style gives.
    if (lying) frame.style.height = `${Math.max(120, 70 + labels.length * 30)}px`;
    const numbers = {
      stacked: !line,
      beginAtZero: true,
      suggestedMax: unit === "%" ? 100 : undefined,
      ticks: {
        precision: unit ? undefined : 0,
        callback(value) {
          return unit ? `${value.toLocaleString(root.lang)} ${unit}` : value.toLocaleString(root.lang);
        },
      },
      grid: {},
    };
    const names = {
      stacked: !line,
      ticks: { autoSkip: !lying, maxRotation: 0 },
      grid: { display: false },
    };
    const chart = new Chart(frame.querySelector("canvas"), {
      type: line ? "line" : "bar",
      data: {
        labels,
        datasets: series.map(({ label, tone, values, words }) => ({
          label,
          tone,
          words,
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
            labels: { boxWidth: 12, boxHeight: 12 },
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
    figure.querySelector("details").open = false;
    paint(chart);
    charts.push(chart);
  }

  function repaint() {
    charts.forEach(paint);
  }

  document.addEventListener("DOMContentLoaded", () => {
    if (!window.Chart) return;
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    document.querySelectorAll(".flashcall-figure").forEach((figure) => {
      if (figure.querySelector("canvas")) draw(figure);
    });
    // The admin's own switch of themes, and the system's.
    new MutationObserver(repaint).observe(root, { attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  });
})();
