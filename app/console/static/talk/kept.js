// What a reload must not lose. It stays in this tab, and goes with it.

export function keep(key, thing) {
  try {
    sessionStorage.setItem(key, JSON.stringify(thing));
  } catch {
    // Without storage a reload loses the call; the server ends it in its time.
  }
}

// null: nothing, or not ours
export function kept(key) {
  try {
    return JSON.parse(sessionStorage.getItem(key));
  } catch {
    return null;
  }
}

export function forget(key) {
  try {
    sessionStorage.removeItem(key);
  } catch {
    // There is no storage, and so nothing in it.
  }
}
