// What tools/sweep.py asks of one page: too wide, too pale, unnamed, where the first figure stands, anchors and links.
const width = document.documentElement.clientWidth;
const clipped = (e) => {
  for (let p = e.parentElement; p && p !== document.body; p = p.parentElement)
    if (/auto|scroll|hidden|clip/.test(getComputedStyle(p).overflowX)) return true;
  return false;
};
const name = (e) => `${e.tagName.toLowerCase()}${e.id ? '#' + e.id : ''}${e.className && e.className.split ? '.' + e.className.split(' ')[0] : ''}`;
const wide = document.documentElement.scrollWidth > width
  ? [...document.body.querySelectorAll('*')].filter((e) => e.getBoundingClientRect().right > width + 1 && !clipped(e)).slice(0, 5).map(name)
  : [];
const rgba = (s) => { const v = s.match(/[\d.]+/g).map(Number); return [v[0], v[1], v[2], v.length > 3 ? v[3] : 1]; };
const over = (a, b) => [0, 1, 2].map((i) => a[i] * a[3] + b[i] * (1 - a[3])).concat(1);
const ground = (e) => {
  const layers = [];
  for (let p = e; p; p = p.parentElement) layers.push(rgba(getComputedStyle(p).backgroundColor));
  const canvas = matchMedia('(prefers-color-scheme: dark)').matches && getComputedStyle(document.documentElement).colorScheme.includes('dark')
    ? [18, 18, 18, 1] : [255, 255, 255, 1];
  return layers.reverse().reduce((under, layer) => over(layer, under), canvas);
};
const light = (c) => {
  const f = (v) => ((v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * f(c[0]) + 0.7152 * f(c[1]) + 0.0722 * f(c[2]);
};
const pale = new Map();
for (const e of document.body.querySelectorAll('*')) {
  if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || e.closest('svg, script, style, noscript')) continue;
  const style = getComputedStyle(e), box = e.getBoundingClientRect();
  if (style.visibility === 'hidden' || !box.width || !box.height || +style.opacity === 0) continue;
  const under = ground(e), ink = over(rgba(style.color), under);
  const [a, b] = [light(ink), light(under)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
  const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700);
  if (ratio < (large ? 3 : 4.5) - 0.01) pale.set(name(e), +ratio.toFixed(2));
}
const unnamed = [...document.querySelectorAll('button, input:not([type=hidden]), select, a[href]')].filter((e) => e.getClientRects().length && !e.closest('[aria-hidden=true]')
  && !(e.getAttribute('aria-label') || e.getAttribute('title') || e.getAttribute('aria-labelledby') || e.textContent.trim()
    || (e.labels && e.labels.length) || e.querySelector('img[alt]:not([alt=""])'))).map(name);
const main = document.querySelector('main') || document.body;
// what a page must typeset, not print: a heading or TeX that stayed text, a name of the process that built the page
const printed = [...main.querySelectorAll('p, li, td')].filter((e) => !e.closest('pre, #ion-explore')).map((e) => {
  const words = e.cloneNode(true);
  words.querySelectorAll('code, mjx-container, script, style').forEach((c) => c.remove());
  return words.textContent.match(/.{0,20}(?:#{2,} \w|\\(?:frac|mathrm|ln|sum|Delta)\b|__main__).{0,20}/)?.[0];
}).filter(Boolean);
const figure = [...main.querySelectorAll('img, svg, canvas')].find((e) => e.getBoundingClientRect().height > 80);
return {
  printed: printed.slice(0, 5), wide, pale: [...pale].slice(0, 8), unnamed: unnamed.slice(0, 5), width: document.documentElement.scrollWidth,
  figure: figure ? Math.round(figure.getBoundingClientRect().top + scrollY) : null,
  ids: [...document.querySelectorAll('[id]')].map((e) => e.id),
  links: [...document.querySelectorAll('a[href]')].map((e) => e.href).filter((h) => h.startsWith(location.origin)),
  broken: [...document.images].filter((i) => i.complete && !i.naturalWidth).map((i) => i.src.slice(0, 80)),
};
