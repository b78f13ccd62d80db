// What is hard to read on this page: texts below 4.5 to 1 and colours of lines below 3 to 1 (WCAG 2, AA).
(() => {
  const luminance = (c) => {
    const [r, g, b] = c.match(/[\d.]+/g).map(Number).map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!colour.endsWith(", 0)")) return colour;
    }
  };
  const bad = new Set();
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.getClientRects().length || ["SCRIPT", "NOSCRIPT", "title"].includes(element.tagName)) continue;
    const drawn = element instanceof SVGElement;
    const front = luminance(drawn ? getComputedStyle(element).fill : getComputedStyle(element).color);
    const back = luminance(drawn && element.closest(".node") ? getComputedStyle(element.closest(".node").querySelector(".box")).fill : ground(drawn ? element.ownerSVGElement.parentElement : element));
    const ratio = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    if (ratio < 4.5) bad.add(`${element.tagName}.${element.getAttribute("class")} ${ratio.toFixed(2)}`);
  }
  const style = getComputedStyle(document.documentElement);
  const back = luminance(getComputedStyle(document.body).backgroundColor);
  const probe = document.createElement("i");
  document.body.append(probe);
  for (const name of ["--c0", "--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7", "--accent", "--way"]) {
    probe.style.color = style.getPropertyValue(name);
    const front = luminance(getComputedStyle(probe).color);
    const ratio = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    if (ratio < 3) bad.add(`${name} ${ratio.toFixed(2)}`);
  }
  probe.remove();
  return [...bad];
})()
