// What is wrong with how the page looks, as lists that should be empty, and the colour of its ground.
const said = (element) => `${element.tagName}.${element.className} ${element.textContent.trim().slice(0, 40)}`;
const shown = [...document.body.querySelectorAll("*")].filter((element) => element.checkVisibility());

// Too wide: whatever hangs over the screen's edge, unless it stands in something that scrolls.
const edge = document.documentElement.clientWidth;
const scrolls = (element) => element.closest("pre, .scroll") && element.closest("pre, .scroll").scrollWidth > element.closest("pre, .scroll").clientWidth;
const wider = document.documentElement.scrollWidth > edge ? [`the page: ${document.documentElement.scrollWidth}`] : [];
for (const element of shown) {
  const box = element.getBoundingClientRect();
  if (box.right > edge + 1 && !scrolls(element)) wider.push(`${said(element)}: ${box.right}`);
}

// Too faint: text whose contrast (WCAG 2.2, 1.4.3) is under 4.5.
const numbers = (colour) => colour.match(/[\d.]+/g).map(Number);
const light = (colour) => {
  const [red, green, blue] = numbers(colour).map((part) => {
    const value = part / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (numbers(colour)[3] !== 0) return colour;
  }
  return "rgb(255, 255, 255)";
};
const faint = [];
for (const element of shown) {
  if (![...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim())) continue;
  const [one, other] = [light(getComputedStyle(element).color), light(ground(element))];
  const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  if (contrast < 4.5) faint.push(`${said(element)}: ${contrast.toFixed(2)}`);
}

// Astray: links that lead nowhere here.
const astray = [...document.links].filter((link) => {
  if (link.origin !== location.origin) return true;
  return link.hash ? !document.getElementById(link.hash.slice(1)) : !/^\/((images|fanout|where)(\/.+)?)?$/.test(link.pathname);
}).map((link) => link.href);

// Nameless: what a screen reader could not call by a name, and headings that skip a level.
const nameless = [...document.querySelectorAll("[aria-labelledby]")]
  .filter((element) => !document.getElementById(element.getAttribute("aria-labelledby"))?.textContent.trim())
  .map(said);
if (document.querySelectorAll("h1").length !== 1) nameless.push("not one h1");
let before = 0;
for (const heading of document.querySelectorAll("h1, h2, h3")) {
  const level = Number(heading.tagName[1]);
  if (level > before + 1) nameless.push(said(heading));
  before = level;
}
const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
nameless.push(...ids.filter((id, place) => ids.indexOf(id) !== place).map((id) => `two elements with id ${id}`));

return { wider, faint, astray, nameless, ground: getComputedStyle(document.body).backgroundColor };
