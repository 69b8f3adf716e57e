// Looks at the page as a person with a screen reader, a keyboard or weak eyes would; returns what is wrong, in words.
// Owns: names, labels, headings, references, target size, contrast. WCAG 2.2: 1.3.1, 1.4.3, 1.4.10, 2.4.6, 2.5.8, 3.1.1, 4.1.2.
() => {
  const wrong = [];
  const all = (selector) => [...document.querySelectorAll(selector)];
  const shown = (one) => one.checkVisibility({ visibilityProperty: true }) && one.getClientRects().length > 0;
  const name = (one) => (one.getAttribute("aria-label") || one.innerText || one.value || "").trim();
  const where = (one) => `${one.tagName.toLowerCase()} "${name(one).slice(0, 40)}"`;

  if (all("h1").length !== 1) wrong.push(`${all("h1").length} headings of the first level`);
  if (!document.title.trim() || document.title.trim().startsWith("–")) wrong.push("no title");
  if (all("main").length !== 1) wrong.push("not one main");
  let level = 0;
  for (const heading of all("h1, h2, h3, h4")) {
    const own = Number(heading.tagName[1]);
    if (level && own > level + 1) wrong.push(`${where(heading)} skips a level`);
    if (!heading.innerText.trim()) wrong.push("an empty heading");
    level = own;
  }
  const ids = all("[id]").map((one) => one.id);
  for (const id of ids.filter((one, at) => ids.indexOf(one) !== at)) wrong.push(`id ${id} stands twice`);
  for (const attribute of ["aria-labelledby", "aria-describedby", "for"])
    for (const one of all(`[${attribute}]`))
      for (const id of one.getAttribute(attribute).split(/\s+/))
        if (!ids.includes(id)) wrong.push(`${attribute}=${id} leads nowhere`);
  for (const one of all("input:not([type=hidden]), select, textarea"))
    if (one.labels.length === 0 && !one.getAttribute("aria-label")) wrong.push(`input ${one.name} has no label`);
  for (const one of all("a[href], button").filter(shown)) if (!name(one)) wrong.push(`${where(one)} has no name`);
  for (const one of all("a:not([href])")) wrong.push(`${where(one)} is a dead link`);
  for (const one of all("fieldset")) if (!one.querySelector("legend")) wrong.push("a fieldset without a legend");
  for (const one of all("nav")) if (!one.getAttribute("aria-label")) wrong.push("a nav without a name");
  for (const one of all("[style], style, script:not([src])")) wrong.push(`${where(one)} is inline`);

  for (const one of all("a[href], button, input:not([type=hidden]), select").filter(shown)) {
    if (one.classList.contains("skip") || getComputedStyle(one).display === "inline") continue; // 2.5.8: inline is exempt
    const label = one.labels && one.labels.length ? one.labels[0] : one;
    const box = (label.contains(one) ? label : one).getBoundingClientRect();
    if (box.height < 24 || box.width < 24) wrong.push(`${where(one)} is a target of ${box.width}x${box.height}`);
  }

  const parsed = (text) => (text.match(/[\d.]+/g) || []).map(Number);
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => ((v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = parsed(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
      if (colour[3] > 0) throw new Error(`a ground that shines through at ${where(at)}`);
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !shown(one) || one.closest(".visually-hidden, .skip")) continue;
    const pair = [luminance(parsed(getComputedStyle(one).color)), luminance(ground(one))].sort((a, b) => b - a);
    const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (contrast < 4.5) wrong.push(`${where(one)} has a contrast of ${contrast.toFixed(2)}`);
  }
  return wrong;
}
