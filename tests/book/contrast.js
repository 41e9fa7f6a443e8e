// The texts of the page whose contrast with their ground is below 4.5, with what sets them.
() => {
  const parts = (color) => {
    const found = color.match(/[\d.]+/g).map(Number);
    return found.length > 3 ? found : [...found, 1];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const ground = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement)
      layers.unshift(parts(getComputedStyle(at).backgroundColor));
    return layers.reduce((below, top) => over(top, below), Array(3).fill(dark ? 18 : 255));
  };
  const luminance = (color) => {
    const linear = color.map((v) => (v / 255 <= 0.04045 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const pale = new Set();
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement, box = element.getBoundingClientRect();
    const read = texts.currentNode.data.trim() && !element.closest("script,style,noscript,svg");
    if (!read || box.width < 2 || !element.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
    const below = ground(element);
    const both = [over(parts(getComputedStyle(element).color), below), below].map(luminance);
    const ratio = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    if (ratio < 4.5) pale.add(`${element.tagName}.${element.className} ${ratio.toFixed(1)}`);
  }
  return [...pale];
}
