// A scanner that poses as a keyboard: a burst of keys, ended by Enter. Nobody types letters where
// there is no field for them, so the burst may be a slow one.

export const LONGEST = 128;
const LONGEST_PAUSE_MS = 500; // between two keys of a burst
const SHORTEST = 3;

// Calls scanned(code), or refused("unreadable" | "tooLong"), once for each burst.
export function listenForScans(scanned, refused) {
  let code = "";
  let keys = 0;
  let unreadable = false;
  let last = -Infinity;

  function forget() {
    code = "";
    keys = 0;
    unreadable = false;
  }

  document.addEventListener("keydown", (event) => {
    if (event.isComposing || event.target.matches("input")) return; // a person types there
    if (event.timeStamp - last > LONGEST_PAUSE_MS) forget();
    last = event.timeStamp;
    if (event.key === "Enter") {
      const burst = keys >= SHORTEST;
      const [read, bad] = [code, unreadable];
      forget();
      if (!burst) return; // a person pressed Enter on a button
      event.preventDefault();
      if (read.length > LONGEST) refused("tooLong");
      else if (bad) refused("unreadable");
      else scanned(read);
      return;
    }
    if (["Shift", "CapsLock", "AltGraph", "NumLock"].includes(event.key)) return;
    const printable = event.key.length === 1 && !event.ctrlKey && !event.metaKey && isText(event.key);
    const spelled = event.key.length === 1 && event.key !== " ";
    if (keys === 0 && !spelled) return; // a person's Tab, Escape, space or arrow
    if (printable) {
      if (code.length <= LONGEST) code += event.key;
    } else {
      unreadable = true; // Ctrl+J, Tab, Escape: how scanners send control characters
    }
    // In the middle of a burst, no key may do what it does for a person: press a button, move on.
    if (keys > 0) event.preventDefault();
    keys += 1;
  }, true);
}

export function isText(text) {
  return !/[\p{Cc}\p{Zl}\p{Zp}]/u.test(text);
}
