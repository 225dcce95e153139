"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const root = document.documentElement;

// light or dark: what the system says, until the reader chooses
const theme = document.getElementById("theme");
const dark = matchMedia("(prefers-color-scheme: dark)");
const remembered = (value) => {
  try {
    if (value) localStorage.setItem("scaledrop-theme", value);
    return localStorage.getItem("scaledrop-theme");
  } catch { // a browser may forbid storage to pages from files
    return null;
  }
};
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
const label = () => { theme.textContent = isDark() ? "Light colours" : "Dark colours"; };
if (["light", "dark"].includes(remembered())) root.dataset.theme = remembered();
theme.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  remembered(root.dataset.theme);
  label();
});
dark.addEventListener("change", label);
theme.hidden = false;
label();

// filters
const filters = document.getElementById("filters");
const matches = (element) => {
  const { topology, method, measured } = filters.elements;
  const has = (chosen, names) => !chosen || !names || names.split("|").includes(chosen);
  return (
    has(topology.value, element.dataset.topology) &&
    has(method.value, element.dataset.method) &&
    !(measured.checked && element.dataset.measured === "no")
  );
};
const seen = (element) => !element.hidden && !element.closest("[hidden]");
const none = (selector, element) => !all(selector, element).some((child) => !child.hidden);
const filter = () => {
  const profile = filters.elements.profile.value;
  for (const section of all(".profile")) section.hidden = Boolean(profile) && section.dataset.profile !== profile;
  for (const item of all("tbody tr, .folded summary span, figure", document.querySelector("main"))) item.hidden = !matches(item);
  for (const folded of all(".folded")) folded.hidden = none("tbody tr", folded);
  for (const section of all(".section")) section.hidden = none("tbody tr", section);
  for (const article of all("article")) {
    article.hidden = Boolean(article.querySelector("figure, .section")) && none("figure, .section", article);
  }
  for (const link of all("nav li[data-for]")) {
    const target = document.getElementById(link.dataset.for);
    link.hidden = target.hidden || target.closest(".profile").hidden;
  }
  const rows = all(".profile:not([hidden]) tbody tr");
  const shown = rows.filter(seen);
  filters.querySelector("output").textContent = `${shown.length} of ${all(".profile tbody tr").length} rows shown`;
};
filters.addEventListener("input", filter);
filters.addEventListener("reset", () => setTimeout(filter));
filters.hidden = false;
filter();

// a picture is as wide as its column; enlarged it scrolls in its box
for (const button of all(".enlarge")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const large = button.closest("figure").classList.toggle("large");
    button.setAttribute("aria-pressed", String(large));
  });
}

if (matchMedia("(max-width: 63.9rem)").matches) document.querySelector("nav details").open = false;
