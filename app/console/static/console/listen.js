// Listening in: a WebRTC leg that only receives. It says who listens, for as long as it lasts.

import { post } from "./api.js";
import { h } from "./dom.js";

export class Listen {
  constructor({ call, name }) {
    this.call = call;
    this.name = name;
    this.audio = h("audio", { autoplay: "" });
    this.button = h("button", { type: "button", class: "button" }, "Listen in");
    this.told = h("span", { role: "status" });
    this.element = h("div", { class: "listen", role: "group", "aria-label": "Listening in" }, this.told, this.button, this.audio);
    this.button.addEventListener("click", () => (this.peer ? this.stop("") : this.start()));
  }

  async start() {
    this.show("Connecting …", true);
    try {
      const { token, ice_servers: iceServers } = await post("/api/webrtc/token");
      const peer = (this.peer = new RTCPeerConnection({ iceServers: iceServers ?? [] }));
      peer.addTransceiver("audio", { direction: "recvonly" });
      peer.ontrack = (event) => {
        this.audio.srcObject = event.streams[0] ?? new MediaStream([event.track]);
      };
      peer.onconnectionstatechange = () => this.changed(peer);
      await peer.setLocalDescription(await peer.createOffer());
      await gathered(peer);
      const response = await fetch(`/webrtc?listen=${encodeURIComponent(this.call)}`, {
        method: "POST",
        headers: { "Content-Type": "application/sdp", Authorization: `Bearer ${token}` },
        body: peer.localDescription.sdp,
      });
      if (!response.ok) throw new Error(response.status === 403 ? "Your token does not allow this." : `The server refused (${response.status}).`);
      this.leg = response.headers.get("Location");
      await peer.setRemoteDescription({ type: "answer", sdp: await response.text() });
    } catch (error) {
      this.stop(error.message);
    }
  }

  changed(peer) {
    if (peer !== this.peer) return;
    if (peer.connectionState === "connected") this.show(`${this.name} is listening. The journal says so; the caller hears nothing of it.`, true);
    if (peer.connectionState === "failed" || peer.connectionState === "closed") this.stop("The connection for listening was lost.");
  }

  stop(words) {
    const { leg, peer } = this;
    this.peer = this.leg = null;
    peer?.close();
    this.audio.srcObject = null;
    if (leg) fetch(leg, { method: "DELETE", keepalive: true }).catch(() => {});
    this.show(words, false);
  }

  show(words, on) {
    this.told.textContent = words;
    this.button.textContent = on ? "Stop listening" : "Listen in";
    this.element.classList.toggle("is-on", on);
  }

  close() {
    if (this.peer) this.stop("");
  }
}

const GATHER_MS = 1500;

function gathered(peer) {
  return new Promise((done) => {
    if (peer.iceGatheringState === "complete") done();
    peer.addEventListener("icegatheringstatechange", () => peer.iceGatheringState === "complete" && done());
    setTimeout(done, GATHER_MS);
  });
}
