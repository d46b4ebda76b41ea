// The page's texts, English and Chinese by the browser's language; ?lang=en or ?lang=zh decides.
// Each part of the page brings its own texts: addTexts({en: {...}, zh: {...}}).

const chosen = new URLSearchParams(location.search).get("lang") ?? navigator.language;
export const language = chosen.toLowerCase().startsWith("zh") ? "zh" : "en";
document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";

const texts = {};

/** Add a part's texts: {en: {key: text}, zh: {key: text}}; a text may hold {names}. The parts share
 * the keys: two with different texts for one are warned of. */
export function addTexts(both) {
  for (const [key, text] of Object.entries(both[language])) {
    if ((texts[key] ?? text) !== text) console.warn(`text "${key}": "${texts[key]}" becomes "${text}"`);
    texts[key] = text;
  }
}

/** Return the text of a key, with {names} replaced by values. */
export function t(key, values = {}) {
  const text = texts[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** Return a number, a percentage (of 0 to 1) or a duration (in seconds) as the reader writes it. */
export const number = (value, digits = 0) =>
  value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
export const percent = (share, digits = 1) => `${number(100 * share, digits)}\u00a0%`;
export function duration(seconds) {
  const whole = Math.round(seconds);
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  const [h, min, s] = language === "zh" ? ["小时", "分", "秒"] : ["h", "min", "s"];
  if (hours) return `${hours} ${h} ${minutes} ${min}`;
  return minutes ? `${minutes} ${min} ${whole % 60} ${s}` : `${whole} ${s}`;
}
