// A link that opens the feed at an item.

import { closeByClick } from "./comments.js";
import { show } from "./messages.js";

const sheet = document.getElementById("link");
closeByClick(sheet);

// Copy the link of an item, or show it where the browser does not let pages copy.
export async function copyLink(item) {
  const link = `${location.origin}/?item=${encodeURIComponent(item)}`;
  try {
    await navigator.clipboard.writeText(link);
    show("Link copied");
  } catch {
    const field = sheet.querySelector("input");
    field.value = link;
    sheet.showModal();
    field.select();
  }
}
