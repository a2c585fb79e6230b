// Lists that change in place, so that what has the focus keeps it.

// Show entries as the children of an element: `key(entry)` tells them apart, `make(entry)` makes an element,
// `show(element, entry)` writes into it.
export function fill(parent, entries, { key, make, show }) {
  const present = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const rows = entries.map((entry) => {
    const name = String(key(entry));
    const row = present.get(name) ?? make(entry);
    present.delete(name);
    row.dataset.key = name;
    show(row, entry);
    return row;
  });
  for (const row of present.values()) row.remove();
  rows.forEach((row, index) => {
    if (parent.children[index] !== row) parent.insertBefore(row, parent.children[index] ?? null);
  });
}
