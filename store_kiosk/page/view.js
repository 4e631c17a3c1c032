// Drawing: from what the server answered to what a shopper sees. Nothing is kept here.

import { WORDS, say } from "./words.js";

export const $ = (id) => document.getElementById(id);

// An element; text is set as text, so that no name is ever taken for HTML.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export function money(language, currency, price) {
  return new Intl.NumberFormat(language, { style: "currency", currency }).format(price);
}

export function stockWords(language, stock) {
  if (stock === null) return "";
  return stock === 0 ? say(language, "soldOut") : say(language, "stock", { n: stock });
}

// The words of everything that is always there.
export function drawWords(language, sizeStep) {
  document.documentElement.lang = language;
  document.title = say(language, "brand");
  for (const element of document.querySelectorAll("[data-word]")) {
    element.textContent = say(language, element.dataset.word);
  }
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", say(language, element.dataset.label));
  }
  $("size").textContent = WORDS[language].sizes[sizeStep];
  for (const button of $("languages").children) {
    button.setAttribute("aria-pressed", String(button.lang === language));
  }
}

export function drawAge(language, data) {
  if (data === null) {
    $("age").textContent = "";
    return;
  }
  const format = new Intl.DateTimeFormat(language, { dateStyle: "long", timeZone: "UTC" });
  const values = { day: format.format(new Date(`${data.to}T00:00:00Z`)), n: data.age_days };
  $("age").textContent = say(language, data.age_days === null ? "age" : "ageDays", values);
}

// A picture, or a tile with the first letters of the name on one of six papers.
export function picture(item) {
  if (item.picture === null) return tile(item);
  const image = make("img", { src: item.picture, alt: "", class: "picture" });
  image.addEventListener("error", () => image.replaceWith(tile(item)));
  return image;
}

function tile(item) {
  let sum = 7;
  for (const character of item.item_id) sum = (sum * 37 + character.codePointAt(0) * 101) % 65521;
  const words = item.name.split(/\s+/u).filter((word) => /^[\p{L}\p{N}]/u.test(word));
  const letters = words.slice(0, 2).map((word) => [...word][0].toUpperCase()).join("");
  return make("div", { class: `picture tile tile-${sum % 6}`, "aria-hidden": "true" }, letters);
}

function card(item, language, currency, act) {
  const open = make(
    "button",
    { type: "button", class: "open", "aria-label": say(language, "details", { name: item.name }) },
    picture(item),
    make("span", { class: "name" }, item.name),
  );
  open.addEventListener("click", () => act.open(item));
  const dismiss = make(
    "button",
    { type: "button", class: "dismiss", "aria-label": say(language, "dismissItem", { name: item.name }) },
    say(language, "dismiss"),
  );
  dismiss.addEventListener("click", () => act.dismiss(item));
  const element = make("li", { class: "card", "data-item": item.item_id }, open);
  const facts = make("p", { class: "facts" });
  if (item.price !== null) {
    facts.append(make("span", { class: "price" }, money(language, currency, item.price)));
  }
  if (item.stock !== null) {
    facts.append(make("span", { class: "stock" }, stockWords(language, item.stock)));
  }
  if (facts.childElementCount) element.append(facts);
  element.append(make("p", { class: "reason" }, item.reason), dismiss);
  return element;
}

export function drawResults(answer, language, currency, act) {
  $("start").hidden = true;
  $("results").hidden = false;
  $("end").hidden = false;
  $("results-title").textContent = WORDS[language].tiers[answer.tier];
  $("items").replaceChildren(...answer.items.map((each) => card(each, language, currency, act)));
  $("nothing").hidden = answer.items.length > 0;
  // what was bought is nobody else's business, not even how much it was
  const notes = answer.notes.filter((each) => each.kind !== "bought");
  $("notes").textContent = notes.map((each) => each.text).join(" · ");
  $("notes").hidden = notes.length === 0;
  $("basket").hidden = answer.basket.length === 0;
  $("basket-items").replaceChildren(...answer.basket.map((item) => {
    const label = say(language, "remove", { name: item.name });
    const remove = make("button", { type: "button", class: "remove", "aria-label": label }, "×");
    remove.addEventListener("click", () => act.remove(item));
    const look = make(
      "button",
      { type: "button", class: "look", "aria-label": say(language, "details", { name: item.name }) },
      item.name,
    );
    look.addEventListener("click", () => act.open(item));
    return make("li", {}, look, remove);
  }));
}

// What can stand in for the item in the dialog, or goes with it: a list for each tier; null: none yet.
export function drawRelated(found, language, currency, open) {
  for (const button of $("relations").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(found !== null && found.relation === button.id));
  }
  const parts = [];
  for (const item of found?.items ?? []) {
    if (parts.at(-1)?.tier !== item.tier) {
      const title = item.tier === "basket" ? say(language, "goesWith") : WORDS[language].tiers[item.tier];
      parts.push({ tier: item.tier, title: make("h3", { tabindex: "-1" }, title), list: make("ul") });
    }
    const facts = [item.price === null ? "" : money(language, currency, item.price), stockWords(language, item.stock)];
    const near = make(
      "button",
      { type: "button", class: "near" },
      make("span", { class: "name" }, item.name),
      make("span", { class: "stock" }, facts.filter((each) => each !== "").join(", ")),
      make("span", { class: "reason" }, item.reason),
    );
    near.addEventListener("click", () => open(item));
    parts.at(-1).list.append(make("li", { "data-item": item.item_id }, near));
  }
  const nothing = found !== null && parts.length === 0;
  const none = nothing ? [make("p", { tabindex: "-1" }, say(language, "nothing"))] : [];
  $("related").replaceChildren(...parts.flatMap((part) => [part.title, part.list]), ...none);
}

export function drawDetail(detail, language, currency) {
  $("detail-picture").replaceChildren(picture(detail));
  $("detail-title").textContent = detail.name;
  $("detail-price").textContent = detail.price === null ? "" : money(language, currency, detail.price);
  $("detail-stock").textContent = stockWords(language, detail.stock);
  $("detail-reason").textContent = detail.reason ?? "";
  $("detail-facts").replaceChildren(...pairs(Object.entries(detail.facts)));
  const percent = new Intl.NumberFormat(language, { style: "percent" });
  const number = new Intl.NumberFormat(language, { maximumFractionDigits: 2 });
  const parts = ["shared", "offline", "online"];
  const personal = detail.attention !== null && parts.some((each) => detail.attention[each] > 0);
  const rests = personal ? parts.map((each) => [say(language, each), percent.format(detail.attention[each])]) : [];
  if (personal) rests.push([say(language, "score"), number.format(detail.score)]);
  $("detail-why").replaceChildren(...pairs(rests));
  $("detail-why").parentElement.hidden = !personal;
  $("detail-why").parentElement.open = false;
}

function pairs(entries) {
  return entries.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)));
}

// Take the item that was looked at out of its dialog.
export function wipeDetail() {
  for (const id of ["detail-picture", "related", "detail-facts", "detail-why"]) $(id).replaceChildren();
  for (const id of ["detail-title", "detail-price", "detail-stock", "detail-reason"]) $(id).textContent = "";
}

// Take everything of a shopper off the page.
export function wipeView() {
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  wipeDetail();
  for (const id of ["items", "basket-items"]) $(id).replaceChildren();
  for (const id of ["results-title", "notes", "said"]) $(id).textContent = "";
  $("by-hand").reset();
  $("basket").hidden = true;
  $("results").hidden = true;
  $("end").hidden = true;
  $("start").hidden = false;
  window.scrollTo(0, 0);
}
