// What is known of the call, from its feed. Pure: messages in, a model to draw out.

const MAX_ROWS = 400;
const MAX_TURNS = 40;
const WITHHELD = "[withheld]"; // the server's word for what must not be shown
const KEY = /^[0-9*#•]$/;

export class Feed {
  constructor() {
    this.rows = []; // of the conversation, oldest first
    this.view = null;
    this.step = "";
    this.visited = new Set();
    this.tools = new Map(); // n -> {n, tool, state, outcome, decision, rule, reason}; `outcome` says more of `state`
    this.turns = []; // newest last
    this.count = 0;
  }

  // From what `toJSON` gave, or null.
  static restored(held) {
    const feed = new Feed();
    if (!Array.isArray(held?.rows)) return feed;
    Object.assign(feed, held, { visited: new Set(held.visited), tools: new Map(held.tools) });
    for (const row of feed.rows) row.over = true; // what was being said went with the old page
    return feed;
  }

  toJSON() {
    return { ...this, visited: [...this.visited], tools: [...this.tools] };
  }

  // `network_ms` is what the network adds to a turn that the caller waits for, or null
  apply(message, networkMs = null) {
    if (message.type === "caption") this.#caption(message.text);
    if (message.type !== "event") return;
    const known = KINDS[message.kind];
    if (known) known(this, message, networkMs);
  }

  add(row) {
    this.rows.push({ id: ++this.count, version: 0, ...row });
    if (this.rows.length > MAX_ROWS) this.rows.splice(0, this.rows.length - MAX_ROWS);
    return this.rows.at(-1);
  }

  reply(gen) {
    return this.rows.findLast((row) => row.side === "agent" && row.gen === gen);
  }

  enter(step) {
    if (!step || step === this.step) return;
    this.step = step;
    this.visited.add(step);
    const last = this.rows.at(-1);
    if (last?.side === "step") {
      last.steps.push(step);
      last.version++;
    } else this.add({ side: "step", steps: [step] });
  }

  tool(n, news) {
    this.tools.set(n, { ...this.tools.get(n), n, ...news });
  }

  // A sentence is about to be spoken. Its place is where it was said; without such news it makes its own.
  #caption(text) {
    for (const row of this.rows.filter((one) => one.side === "agent" && !one.over)) {
      const sentence = row.sentences.find((one) => !one.begun && (one.text === text || one.text === WITHHELD));
      if (!sentence) continue;
      sentence.begun = true;
      sentence.text = text; // who hears it may read it
      row.version++;
      return;
    }
    this.add({ side: "agent", gen: null, over: false, sentences: [{ index: 0, text, begun: true, heard: null }] });
  }
}

const KINDS = {
  said(feed, { gen, index, text }) {
    let row = feed.reply(gen);
    if (!row) {
      const orphan = feed.rows.findLast((one) => one.gen === null && !one.over && [one.sentences[0].text, WITHHELD].includes(text));
      row = orphan ?? feed.add({ side: "agent", gen, over: false, sentences: [] });
      row.gen = gen;
    }
    const held = row.sentences.find((one) => one.index === index);
    if (held) {
      if (text !== WITHHELD) held.text = text;
    } else row.sentences.push({ index, text, begun: false, heard: null });
    row.version++;
  },

  // Sentences below `sentence` were heard whole, and `chars` characters of that one.
  heard(feed, { gen, sentence, chars, cause }) {
    const row = feed.reply(gen);
    if (!row || cause === "held") return; // it may go on
    row.over = true;
    row.cause = cause;
    row.sentences.forEach((one, at) => {
      one.heard = at < sentence ? one.text.length : at === sentence ? Math.min(chars, one.text.length) : 0;
    });
    row.version++;
  },

  caller(feed, { text }) {
    const last = feed.rows.at(-1);
    const key = KEY.test(text);
    if (key && last?.keys) {
      last.text += text;
      last.version++;
    } else feed.add({ side: "caller", text, keys: key });
  },

  step(feed, { step }) {
    feed.enter(step);
  },

  view(feed, { view }) {
    feed.view = view;
    feed.enter(view.step);
    for (const { n, tool, state, reason } of view.tools ?? []) {
      feed.tool(n, { tool, state, outcome: reason });
    }
  },

  // The first check's word stands until the tool starts, is refused or withdrawn.
  verdict(feed, { n, tool, decision, rule, reason }) {
    const held = feed.tools.get(n);
    const state = decision === "started" ? "running" : decision;
    feed.tool(n, { tool, state: SETTLED.has(held?.state) ? held.state : state, decision, rule, reason });
  },

  turn(feed, turn, networkMs) {
    const { endpointing_ms = 0, model_ms = 0, tts_ms = 0 } = turn;
    feed.turns.push({ n: feed.turns.length ? feed.turns.at(-1).n + 1 : 1, endpointing_ms, model_ms, tts_ms, network_ms: networkMs ?? 0 });
    if (feed.turns.length > MAX_TURNS) feed.turns.shift();
  },

  gap(feed) {
    feed.add({ side: "note", text: "Some moments were not shown: the connection was too slow for them." });
  },
};

const SETTLED = new Set(["done", "failed", "unknown", "declined"]);
