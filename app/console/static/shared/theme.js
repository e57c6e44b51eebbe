// Dark or light: as the system has it, until somebody chooses. Loaded before the page is drawn.

const KEY = "voicegate-theme";
const root = document.documentElement;
const system = matchMedia("(prefers-color-scheme: dark)");

function chosen() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

function apply() {
  root.dataset.theme = chosen() ?? (system.matches ? "dark" : "light");
}

system.addEventListener("change", apply);
apply();

document.getElementById("theme").addEventListener("click", () => {
  try {
    localStorage.setItem(KEY, root.dataset.theme === "dark" ? "light" : "dark");
  } catch {
    // Without storage the choice lasts as long as the page.
  }
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
});
