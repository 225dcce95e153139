// What scrolls or repeats gets a place in the order of the keyboard, and a name for those who do not see it.
const named = () => {
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code")) box.tabIndex = 0
  if (matchMedia("(max-width: 40em)").matches) for (const box of document.querySelectorAll(".md-typeset p:has(> img:only-child)")) box.tabIndex = 0
  document.querySelectorAll(".md-code__nav").forEach((nav, index) => nav.setAttribute("aria-label", `Code block ${index + 1}`))
  document.querySelectorAll(".md-nav--secondary .md-nav:not([data-part])").forEach((part, index) => {
    part.dataset.part = index + 1
    part.setAttribute("aria-label", `Part ${index + 1}: ${part.getAttribute("aria-label")}`)
  })
}
new MutationObserver(named).observe(document.body, { childList: true, subtree: true })
named()
