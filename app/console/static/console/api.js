// The HTTP interface as the console uses it. Every failure is an ApiError with words for people.

const RETRY_MS = [500, 1000, 2000, 5000, 10000];

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const WORDS = {
  0: "The server cannot be reached.",
  401: "Please sign in again.",
  403: "Your token does not allow this.",
  404: "There is no such thing here (any more).",
  429: "Too many requests. Please wait a moment.",
};

async function request(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, WORDS[0]);
  }
  if (response.ok) return response;
  if (response.status === 401 && path !== "/api/login") dispatchEvent(new CustomEvent("signed-out"));
  throw new ApiError(response.status, (await detail(response)) || WORDS[response.status] || `The server answered ${response.status}.`);
}

async function detail(response) {
  try {
    const body = await response.json();
    return typeof body.detail === "string" ? body.detail : "";
  } catch {
    return "";
  }
}

export async function getJson(path, signal) {
  return (await request(path, { signal })).json();
}

export async function getText(path, signal) {
  return (await request(path, { signal })).text();
}

export async function post(path, body = {}) {
  const response = await request(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  const text = await response.text();
  return text ? JSON.parse(text) : {};
}

export function query(values) {
  const set = Object.entries(values).filter(([, value]) => value !== "" && value != null && value !== false);
  return set.length ? "?" + new URLSearchParams(set) : "";
}

// Follows a server-sent stream until the returned function is called. `handlers` are by event name; `onState` hears
// "open", "lost" or "over". A stream that breaks is opened anew, after longer and longer pauses.
export function follow(path, handlers, onState = () => {}) {
  let source = null;
  let timer = 0;
  let tries = 0;
  let stopped = false;

  const open = () => {
    source = new EventSource(path);
    source.onopen = () => {
      tries = 0;
      onState("open");
    };
    for (const [name, handle] of Object.entries(handlers)) {
      source.addEventListener(name, (event) => handle(JSON.parse(event.data)));
    }
    source.onerror = async () => {
      source.close();
      if (stopped) return;
      onState("lost");
      const wait = RETRY_MS[Math.min(tries++, RETRY_MS.length - 1)];
      timer = setTimeout(async () => {
        if (await stillThere(path)) open();
        else onState("over");
      }, wait);
    };
  };

  // An EventSource does not say why it failed: ask once, so that a lost sign-in is not retried for ever.
  const stillThere = async () => {
    try {
      await getJson("/api/me");
    } catch (error) {
      return !stopped && error.status !== 401;
    }
    return !stopped;
  };

  open();
  return () => {
    stopped = true;
    clearTimeout(timer);
    source.close();
  };
}
