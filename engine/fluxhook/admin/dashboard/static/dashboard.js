// Small elements that the pages are written with: pictures, states, times, the theme's switch.
"use strict";

// ---- a session that has ended cannot connect again: the page leads to the login then ------------

async function leaveWithoutSession() {
  const answer = await fetch(location.href, { method: "HEAD", redirect: "manual" }).catch(() => null);
  if (answer?.type === "opaqueredirect") location.reload();
}

window.addEventListener("load", () => {
  if (!document.getElementById("popup")) return; // the login
  const waiting = setInterval(() => {
    if (!window.socket) return;
    clearInterval(waiting);
    window.socket.io.on("reconnect_attempt", leaveWithoutSession);
  }, 200);
});

// ---- theme: follows the system until somebody chooses; set before anything is painted ---------

const THEME_KEY = "fluxhook-theme";
const THEMES = ["system", "light", "dark"];

function theme() {
  try {
    const chosen = localStorage.getItem(THEME_KEY);
    return THEMES.includes(chosen) ? chosen : "system";
  } catch {
    return "system";
  }
}

function applyTheme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
}

applyTheme(theme());

// ---- pictures: 16 x 16, drawn with strokes ----------------------------------------------------

const PATHS = {
  active: "M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8M5.2 8.2l2 2 3.6-4.2",
  failing: "M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8M5.8 5.8l4.4 4.4M10.2 5.8l-4.4 4.4",
  unknown: "M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8M6.4 6.3a1.7 1.7 0 1 1 2.3 1.8c-.5.2-.7.5-.7 1M8 11.3v.1",
  paused: "M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8M6.4 5.8v4.4M9.6 5.8v4.4",
  disabled: "M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8M3.7 3.7l8.6 8.6",
  misconfigured: "M8 2 14.5 13.5h-13ZM8 6.3v3.4M8 11.5v.1",
  open: "M8 2 14.5 13.5h-13ZM8 6.3v3.4M8 11.5v.1",
  "half-open": "M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8M6.4 6.3a1.7 1.7 0 1 1 2.3 1.8c-.5.2-.7.5-.7 1M8 11.3v.1",
  removed: "M3 4.5h10M6.5 4V2.5h3V4M4.5 4.5l.6 9h5.8l.6-9",
  waiting: "M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8M8 4.6V8l2.4 1.6",
  blocked: "M2.5 4h11M2.5 8h11M2.5 12h6",
  delivered: "M2.8 8.6 6.2 12l7-7.6",
  dead: "M3.8 3.8l8.4 8.4M12.2 3.8l-8.4 8.4",
  dropped: "M8 2.5v8M4.8 7.6 8 10.8l3.2-3.2M3 13.5h10",
  failed: "M3.8 3.8l8.4 8.4M12.2 3.8l-8.4 8.4",
  running: "M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8M5.2 8.2l2 2 3.6-4.2",
  stopped: "M8 2 14.5 13.5h-13ZM8 6.3v3.4M8 11.5v.1",
  system: "M2 3h12v8H2ZM6 13.8h4M8 11v2.8",
  light: "M8 5.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6M8 1.2v1.4M8 13.4v1.4M1.2 8h1.4M13.4 8h1.4M3.2 3.2l1 1M11.8 11.8l1 1M3.2 12.8l1-1M11.8 4.2l1-1",
  dark: "M13.4 9.6A5.8 5.8 0 0 1 6.4 2.6a5.8 5.8 0 1 0 7 7Z",
  plus: "M8 3v10M3 8h10",
  send: "M14 2 7 9M14 2 9.6 14 7 9 2 6.4Z",
  pause: "M5.5 3.5v9M10.5 3.5v9",
  play: "M5 3.2v9.6L12.8 8Z",
  key: "M10.2 2.2a3.6 3.6 0 1 0 0 7.2 3.6 3.6 0 0 0 0-7.2M7.6 8.4 2.4 13.6M4.4 11.6l1.6 1.6",
  edit: "M2.5 13.5l.6-3.1 7.6-7.6a1.5 1.5 0 0 1 2.1 0l.4.4a1.5 1.5 0 0 1 0 2.1l-7.6 7.6ZM9.4 4.1l2.5 2.5",
  trash: "M3 4.5h10M6.5 4V2.5h3V4M4.5 4.5l.6 9h5.8l.6-9",
  replay: "M13 8a5 5 0 1 1-1.6-3.7M13.2 1.8v3h-3",
  copy: "M5.5 5.5h8v8h-8ZM3 10.5h-.5v-8h8V3",
  search: "M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9M10.3 10.3l3.4 3.4",
  logout: "M6.5 2.5h-4v11h4M6 8h8M11 5l3 3-3 3",
  info: "M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8M8 7.4v3.6M8 4.9v.1",
};

const LABELS = {
  active: "Active", failing: "Failing", unknown: "Unknown", misconfigured: "Misconfigured", paused: "Paused", disabled: "Disabled", open: "Breaker open",
  "half-open": "Probing", removed: "Removed", waiting: "Waiting", blocked: "Blocked",
  delivered: "Delivered", dead: "Dead", dropped: "Dropped", failed: "Failed",
  running: "Running", stopped: "Not running",
};

function picture(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", PATHS[name] ?? "");
  svg.append(path);
  return svg;
}

class Drawn extends HTMLElement {
  connectedCallback() {
    this.draw();
  }
  attributeChangedCallback() {
    if (this.isConnected) this.draw();
  }
}

customElements.define(
  "fh-icon",
  class extends Drawn {
    static observedAttributes = ["name"];
    draw() {
      this.replaceChildren(picture(this.getAttribute("name")));
    }
  },
);

customElements.define(
  "fh-state",
  class extends Drawn {
    static observedAttributes = ["state", "label"];
    draw() {
      const state = this.getAttribute("state");
      const word = document.createElement("span");
      word.textContent = this.getAttribute("label") || LABELS[state] || state;
      this.replaceChildren(picture(state), word);
    }
  },
);

// ---- times: `due` has those that have come say so, instead of how long ago; `dated` shows the date
// and has the other as its title ------------------------------------------------------------------

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

/** "3 s ago", "in 12 min": one unit, rounded down; "now" below a second. */
function relative(ms) {
  const seconds = Math.floor(Math.abs(ms) / 1000);
  for (const [size, unit] of UNITS) {
    if (seconds >= size) {
      const span = `${Math.floor(seconds / size)}\u202f${unit}`;
      return ms > 0 ? `in ${span}` : `${span} ago`;
    }
  }
  return "now";
}

const shown = new Set();

customElements.define(
  "fh-time",
  class extends Drawn {
    static observedAttributes = ["at", "due", "dated"];
    connectedCallback() {
      shown.add(this);
      super.connectedCallback();
    }
    disconnectedCallback() {
      shown.delete(this);
    }
    draw() {
      const at = this.getAttribute("at");
      let words = "\u2013";
      if (at) {
        const ahead = Date.parse(at) - Date.now();
        words = this.hasAttribute("due") && ahead <= 0 ? "due" : relative(ahead);
        let title = new Date(at).toLocaleString(undefined, {
          dateStyle: "medium", timeStyle: "medium",
        });
        if (this.hasAttribute("dated")) [words, title] = [title, words];
        if (this.title !== title) this.title = title;
      } else this.removeAttribute("title");
      if (this.textContent !== words) this.textContent = words;
    }
  },
);

setInterval(() => {
  if (!document.hidden) shown.forEach((element) => element.draw());
}, 1000);

// ---- the page ---------------------------------------------------------------------------------

customElements.define(
  "fh-theme",
  class extends HTMLElement {
    connectedCallback() {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "button ghost square";
      button.addEventListener("click", () => {
        const next = THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length];
        localStorage.setItem(THEME_KEY, next);
        applyTheme(next);
        this.draw();
      });
      this.replaceChildren(button);
      this.draw();
    }
    draw() {
      const name = theme();
      const button = this.firstChild;
      button.replaceChildren(picture(name));
      button.title = `Theme: ${name}`;
      button.setAttribute("aria-label", `Theme: ${name}. Switch`);
    }
  },
);

// Copies the text of the element that `of` names.
customElements.define(
  "fh-copy",
  class extends HTMLElement {
    connectedCallback() {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "button";
      const word = document.createElement("span");
      word.textContent = "Copy";
      word.setAttribute("aria-live", "polite");
      button.append(picture("copy"), word);
      button.addEventListener("click", async () => {
        const source = document.querySelector(this.getAttribute("of"));
        try {
          await navigator.clipboard.writeText(source.textContent);
          word.textContent = "Copied";
        } catch {
          getSelection().selectAllChildren(source); // without leave to copy, it is ready to be
          word.textContent = "Selected";
        }
        setTimeout(() => (word.textContent = "Copy"), 2000);
      });
      this.replaceChildren(button);
    }
  },
);

// The way to the other pages; where it is wider than the screen, the present one is in sight.
customElements.define(
  "fh-nav",
  class extends HTMLElement {
    connectedCallback() {
      new ResizeObserver(() => {
        const here = this.querySelector("[aria-current]");
        if (here) this.scrollLeft = here.offsetLeft - this.offsetLeft - this.clientWidth / 3;
      }).observe(this);
    }
  },
);

// A page that nobody sees asks for nothing.
document.addEventListener("visibilitychange", () => {
  if (typeof emitEvent === "function") emitEvent("page_shown", !document.hidden);
});
