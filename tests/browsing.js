() => {
  const wrong = [];
  const name = (each) => each.outerHTML.slice(0, 100);
  const all = (chosen) => [...document.querySelectorAll(chosen)];
  const text = (each) => (each?.textContent ?? "").trim();
  const shown = (each) => each.checkVisibility({ visibilityProperty: true }) && each.getBoundingClientRect().width > 0;

  if (!document.documentElement.lang) wrong.push("the page has no language");
  if (!document.title) wrong.push("the page has no title");
  for (const chosen of ["main", "h1", "header"]) {
    if (all(chosen).length !== 1) wrong.push(`${all(chosen).length} of ${chosen}`);
  }
  const ids = all("[id]").map((each) => each.id);
  for (const id of new Set(ids)) if (ids.filter((other) => other === id).length > 1) wrong.push(`id ${id} twice`);
  for (const each of all("[aria-labelledby], [aria-describedby]")) {
    const told = each.getAttribute("aria-labelledby") ?? each.getAttribute("aria-describedby");
    if (!text(document.getElementById(told))) wrong.push(`nothing labels ${name(each)}`);
  }
  let level = 0;
  for (const each of all("h1, h2, h3, h4")) {
    const own = Number(each.tagName[1]);
    if (own > level + 1) wrong.push(`h${level} is followed by h${own}`);
    level = own;
    if (!text(each)) wrong.push(`an empty heading ${name(each)}`);
  }
  for (const each of all("section, nav, [role=region]")) {
    if (!each.ariaLabel && !each.getAttribute("aria-labelledby")) wrong.push(`no name: ${name(each)}`);
  }
  for (const each of all("table")) {
    if (!each.caption && !each.closest("[aria-label]")) wrong.push(`no caption: ${name(each)}`);
    for (const head of each.querySelectorAll("th")) if (!head.scope) wrong.push(`a head without scope: ${name(head)}`);
  }
  for (const each of all("svg")) {
    if (each.getAttribute("aria-hidden") !== "true" && !each.ariaLabel) wrong.push(`no words for ${name(each)}`);
  }
  for (const each of all("input:not([type=hidden])")) if (!each.labels.length) wrong.push(`no label: ${name(each)}`);
  for (const each of all("a, button, summary")) if (!text(each)) wrong.push(`no words: ${name(each)}`);
  for (const each of all(".scroll, pre")) {
    if (each.scrollWidth > each.clientWidth && each.tabIndex < 0) wrong.push(`keys cannot scroll ${name(each)}`);
  }
  for (const each of all("[tabindex]")) if (each.tabIndex > 0) wrong.push(`an order of its own: ${name(each)}`);

  // Contrast of text with what is behind it: 4.5 at least (WCAG 2.2, 1.4.3).
  const rgb = (color) => (color.match(/[\d.]+/g) ?? []).map(Number);
  const light = (color) => {
    const [r, g, b] = rgb(color).map((part) => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (each) => {
    for (let at = each; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (rgb(color)[3] !== 0) return color;
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? "rgb(0, 0, 0)" : "rgb(255, 255, 255)";
  };
  for (const each of all("body *")) {
    const own = [...each.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (!own || !shown(each) || each.closest("noscript, title")) continue;
    const style = getComputedStyle(each);
    const color = each instanceof SVGElement ? style.fill : style.color;
    const [high, low] = [light(color), light(behind(each))].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) wrong.push(`contrast ${ratio.toFixed(2)}: ${name(each)}`);
  }
  for (const each of all("a, button, summary, input:not([type=hidden])")) {
    const { width, height } = each.getBoundingClientRect();
    if (shown(each) && Math.min(width, height) < 24 && !each.closest("p, td, th")) wrong.push(`small: ${name(each)}`);
  }
  return wrong;
}
