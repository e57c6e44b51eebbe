// A table of any number of rows of one height: only those in sight exist as elements.

const SPARE_ROWS = 6;

export class Grid {
  // columns: [{name, label, fill(cell, row)}]; `fill` sets textContent and classes, and is called often.
  // rowClass(row) and href(row) say how a row looks and where it leads.
  constructor({ label, columns, rowClass = () => "", href, name }) {
    this.columns = columns;
    this.rowClass = rowClass;
    this.href = href;
    this.rows = [];
    this.active = 0;
    this.activeKey = null;
    this.pool = [];
    this.id = `grid-${name}`;

    this.element = document.createElement("div");
    this.element.className = `grid grid-${name}`;
    this.element.tabIndex = 0;
    this.element.setAttribute("role", "grid");
    this.element.setAttribute("aria-label", label);
    this.element.setAttribute("aria-colcount", columns.length);

    const head = this.element.appendChild(document.createElement("div"));
    head.className = "grid-head";
    head.setAttribute("role", "rowgroup");
    const headRow = head.appendChild(document.createElement("div"));
    headRow.className = "grid-row";
    headRow.setAttribute("role", "row");
    headRow.setAttribute("aria-rowindex", 1);
    for (const column of columns) {
      const cell = headRow.appendChild(document.createElement("div"));
      cell.setAttribute("role", "columnheader");
      cell.className = `cell cell-${column.name}`;
      cell.textContent = column.label;
    }
    this.head = head;

    this.body = this.element.appendChild(document.createElement("div"));
    this.body.className = "grid-body";
    this.body.setAttribute("role", "rowgroup");

    this.draw = this.draw.bind(this);
    this.element.addEventListener("scroll", () => this.later(), { passive: true });
    this.element.addEventListener("keydown", (event) => this.key(event));
    this.element.addEventListener("click", (event) => this.click(event));
    this.resized = new ResizeObserver(() => {
      this.rowHeight = 0;
      this.later();
    });
    this.resized.observe(this.element);
  }

  set(rows) {
    this.rows = rows;
    if (this.activeKey !== null) {
      const at = rows.findIndex((row) => row.call === this.activeKey);
      if (at >= 0) this.active = at;
    }
    this.active = Math.max(0, Math.min(this.active, rows.length - 1));
    this.later();
  }

  later() {
    if (!this.frame) this.frame = requestAnimationFrame(this.draw);
  }

  measure() {
    this.rowHeight = parseFloat(getComputedStyle(this.element).getPropertyValue("--row-height")) || 44;
    this.headHeight = this.head.offsetHeight;
  }

  draw() {
    this.frame = 0;
    if (!this.element.isConnected) return;
    if (!this.rowHeight) this.measure();
    const total = this.rows.length;
    const height = `${total * this.rowHeight}px`;
    if (this.body.style.height !== height) this.body.style.height = height;
    this.element.setAttribute("aria-rowcount", total + 1);

    const top = this.element.scrollTop;
    const first = Math.max(0, Math.floor(top / this.rowHeight) - SPARE_ROWS);
    const last = Math.min(total, Math.ceil((top + this.element.clientHeight) / this.rowHeight) + SPARE_ROWS);
    const shown = Math.max(0, last - first);
    while (this.pool.length < shown) this.pool.push(this.make(this.pool.length));
    // A row keeps its element while it stays in sight, so that screen readers and hover are not disturbed.
    for (let i = first; i < last; i++) this.fill(this.pool[i % this.pool.length], i);
    const used = new Set();
    for (let i = first; i < last; i++) used.add(i % this.pool.length);
    this.pool.forEach((row, i) => {
      if (!used.has(i) && row.index !== -1) {
        row.element.hidden = true;
        row.index = -1;
      }
    });
    const current = total ? this.pool.find((row) => row.index === this.active) : null;
    if (current) this.element.setAttribute("aria-activedescendant", current.element.id);
    else this.element.removeAttribute("aria-activedescendant");
  }

  make(number) {
    const element = this.body.appendChild(document.createElement("div"));
    element.setAttribute("role", "row");
    element.id = `${this.id}-${number}`;
    const cells = this.columns.map((column) => {
      const cell = element.appendChild(document.createElement("div"));
      cell.setAttribute("role", "gridcell");
      cell.className = `cell cell-${column.name}`;
      return cell;
    });
    return { element, cells, index: -1 };
  }

  fill(row, index) {
    const data = this.rows[index];
    if (row.index !== index) {
      row.index = index;
      row.element.hidden = false;
      row.element.style.transform = `translateY(${index * this.rowHeight}px)`;
      row.element.setAttribute("aria-rowindex", index + 2);
    }
    const name = `grid-row ${this.rowClass(data)}${index === this.active ? " is-active" : ""}`;
    if (row.element.className !== name) row.element.className = name;
    this.columns.forEach((column, i) => column.fill(row.cells[i], data));
  }

  go(index) {
    this.active = Math.max(0, Math.min(index, this.rows.length - 1));
    this.activeKey = this.rows[this.active]?.call ?? null;
    const top = this.active * this.rowHeight;
    const view = this.element.clientHeight - this.headHeight;
    if (top < this.element.scrollTop) this.element.scrollTop = top;
    else if (top + this.rowHeight > this.element.scrollTop + view) this.element.scrollTop = top + this.rowHeight - view;
    this.later();
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const page = Math.max(1, Math.floor((this.element.clientHeight - this.headHeight) / this.rowHeight) - 1);
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in moves) {
      this.go(this.active + moves[event.key]);
    } else if (event.key === "Enter" && this.rows[this.active]) {
      location.hash = this.href(this.rows[this.active]);
    } else {
      return;
    }
    event.preventDefault();
  }

  click(event) {
    const element = event.target.closest(".grid-body > .grid-row");
    const row = this.pool.find((one) => one.element === element);
    if (!row || event.target.closest("a") || getSelection().toString()) return;
    this.active = row.index;
    this.activeKey = this.rows[row.index].call;
    location.hash = this.href(this.rows[row.index]);
  }

  close() {
    this.resized.disconnect();
    cancelAnimationFrame(this.frame);
  }
}

// Writes only what differs: most cells stay as they are from one update to the next.
export function write(cell, text) {
  if (cell.textContent !== text) cell.textContent = text;
}

export function writeLink(cell, text, href) {
  let link = cell.firstElementChild;
  if (!link) {
    link = cell.appendChild(document.createElement("a"));
    link.tabIndex = -1; // the grid itself takes the focus
  }
  if (link.textContent !== text) link.textContent = text;
  if (link.getAttribute("href") !== href) link.setAttribute("href", href);
}
