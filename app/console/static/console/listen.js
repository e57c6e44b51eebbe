// Listening in: a WebRTC leg that only receives. It says who listens, for as long as it lasts.

import { h } from "../shared/dom.js";
import { RtcLeg } from "../shared/rtc.js";

const ON = (name) => `${name} is listening. The journal says so; the caller hears nothing of it.`;

export class Listen {
  constructor({ call, name }) {
    this.call = call;
    this.name = name;
    this.leg = null;
    this.audio = h("audio", { autoplay: "" });
    this.button = h("button", { type: "button", class: "button" }, "Listen in");
    this.told = h("span", { role: "status" });
    this.element = h("div", { class: "listen", role: "group", "aria-label": "Listening in" }, this.told, this.button, this.audio);
    this.button.addEventListener("click", () => (this.leg ? this.stop("") : this.start()));
  }

  start() {
    const leg = (this.leg = new RtcLeg({
      path: `/webrtc?listen=${encodeURIComponent(this.call)}`,
      channel: false,
      on: {
        up: () => this.show(ON(this.name), true),
        shaky: () => this.show("The connection is unstable.", true),
        down: (error) => this.leg === leg && this.stop(error.message),
        track: (stream) => {
          this.audio.srcObject = stream;
        },
      },
    }));
    this.show("Connecting …", true);
    leg.open();
  }

  stop(words) {
    const { leg } = this;
    this.leg = null;
    leg?.close({ goodbye: true });
    this.audio.srcObject = null;
    this.show(words, false);
  }

  show(words, on) {
    this.told.textContent = words;
    this.button.textContent = on ? "Stop listening" : "Listen in";
    this.element.classList.toggle("is-on", on);
  }

  close() {
    if (this.leg) this.stop("");
  }
}
