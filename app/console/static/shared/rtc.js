// One WebRTC leg: offer and answer over HTTP in WHIP's manner (RFC 9725), candidates that trickle (RFC 8840).
// It knows nothing of the page. It lives once: `open`, then "up", perhaps "shaky", at last "down".

import { Sampler } from "./stats.js";

const CONNECT_MS = 15_000; // from the first request until media may flow
const SHAKY_MS = 2000; // a connection that is interrupted for longer is taken for lost
const BATCH_MS = 50; // candidates found within this time travel together
const CHANNEL = "voicegate";

// Why a leg could not be, or is no more. `kind` is one of: "unsupported", "away", "sign-in", "refused", "missing", "gone"
// (a call that cannot be taken up again), "busy", "too-many", "network", "lost", "failed".
export class LegError extends Error {
  constructor(kind, message, status = 0) {
    super(message);
    this.kind = kind;
    this.status = status;
  }
}

const KINDS = { 401: "sign-in", 403: "refused", 404: "missing", 429: "too-many", 503: "busy" };
// An offer comes with a token that was just given out: what is not accepted then is its `resume`.
const OFFER_KINDS = { ...KINDS, 401: "gone" };

export class RtcLeg {
  #heard;
  #aborted = new AbortController();
  #deadline = 0;
  #patience = 0;
  #batch = 0;
  #found = [];
  #resource = "";
  #token = "";
  #offered = false;
  #over = false;
  #parting = false; // a goodbye is owed as soon as it is known what to end
  #up = false;
  #sampler = new Sampler();

  // `path`: "/webrtc/FLOW?resume=...", `track`: what the microphone gives, or null to listen only; `channel`: whether
  // messages go both ways. `on`: {up(), shaky(), down(LegError), track(MediaStream), message(object)}, all optional.
  constructor({ path, track = null, channel = true, on = {} }) {
    this.path = path;
    this.track = track;
    this.wantsChannel = channel;
    this.#heard = on;
  }

  async open() {
    this.#deadline = setTimeout(() => this.#late(), CONNECT_MS);
    try {
      if (typeof RTCPeerConnection === "undefined") throw new LegError("unsupported", "This browser has no WebRTC.");
      const admitted = await this.#ask("/api/webrtc/token", { method: "POST" });
      const { token, ice_servers: iceServers } = await admitted.json();
      this.#token = token;
      if (this.#over) return;
      const peer = this.#connect(iceServers ?? []);
      await peer.setLocalDescription();
      if (this.#over) return;
      this.#offered = true;
      const offer = { method: "POST", headers: this.#headers("application/sdp"), body: peer.localDescription.sdp };
      const answered = await this.#ask(this.path, offer, OFFER_KINDS);
      this.#resource = answered.headers.get("Location") ?? "";
      const resume = answered.headers.get("Voicegate-Resume");
      // The token in the path is used up, whatever becomes of this leg.
      if (resume && this.path.includes("resume=")) this.#tell("message", { type: "started", resume });
      const sdp = await answered.text();
      if (this.#over) return this.#parting && this.#goodbye();
      await peer.setRemoteDescription({ type: "answer", sdp });
      this.#trickle();
    } catch (error) {
      if (!this.#over) this.#down(error instanceof LegError ? error : new LegError("failed", error.message));
    }
  }

  // Whether it was taken: a message to a leg that is not up goes nowhere.
  send(message) {
    if (this.channel?.readyState !== "open") return false;
    this.channel.send(JSON.stringify(message));
    return true;
  }

  async replaceTrack(track) {
    this.track = track;
    await this.sender?.replaceTrack(track);
  }

  // What the network is like since the last time this was asked; null while nothing is known.
  async sample() {
    return this.#up ? this.#sampler.take(await this.peer.getStats()) : null;
  }

  // With `goodbye` the server is told to end what the leg was for; without, it waits for another leg to take its place.
  close({ goodbye }) {
    this.#parting = goodbye;
    if (!this.#over) this.#end();
    if (goodbye) this.#goodbye(); // also for a leg that was lost: the server may not have noticed yet
  }

  #connect(iceServers) {
    const peer = (this.peer = new RTCPeerConnection({ iceServers, bundlePolicy: "max-bundle" }));
    const line = peer.addTransceiver(this.track ?? "audio", { direction: this.track ? "sendrecv" : "recvonly" });
    this.sender = this.track ? line.sender : null;
    peer.ontrack = (event) => this.#tell("track", event.streams[0] ?? new MediaStream([event.track]));
    peer.onicecandidate = (event) => this.#candidate(event.candidate);
    peer.onconnectionstatechange = () => this.#changed();
    if (this.wantsChannel) {
      const channel = (this.channel = peer.createDataChannel(CHANNEL));
      channel.onopen = () => this.#changed();
      channel.onclose = () => this.#down(new LegError("lost", "The connection was lost."));
      channel.onmessage = (event) => this.#message(event.data);
    }
    return peer;
  }

  #changed() {
    if (this.#over) return;
    const state = this.peer.connectionState;
    if (state === "connected") {
      clearTimeout(this.#patience);
      if (this.channel && this.channel.readyState !== "open") return;
      clearTimeout(this.#deadline);
      this.#up = true;
      this.#tell("up");
    } else if (state === "disconnected") {
      clearTimeout(this.#patience);
      this.#patience = setTimeout(() => this.#down(new LegError("lost", "The connection was lost.")), SHAKY_MS);
      if (this.#up) this.#tell("shaky");
    } else if (state === "failed" || state === "closed") {
      this.#down(this.#up ? new LegError("lost", "The connection was lost.") : new LegError("network", "No media can pass."));
    }
  }

  #message(data) {
    if (this.#over || typeof data !== "string") return;
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return; // not ours
    }
    if (message && typeof message === "object") this.#tell("message", message);
  }

  #candidate(candidate) {
    this.#found.push(candidate ? `a=${candidate.candidate}` : "a=end-of-candidates");
    this.#trickle();
  }

  // All media are bundled, so every candidate belongs to the first section.
  #trickle() {
    if (this.#over || !this.#resource || !this.#found.length || this.#batch) return;
    this.#batch = setTimeout(() => {
      this.#batch = 0;
      if (this.#over) return;
      const sdp = this.peer.localDescription.sdp;
      const [ufrag, password] = [/^a=ice-ufrag:.*$/m, /^a=ice-pwd:.*$/m].map((line) => line.exec(sdp)[0].trim());
      const media = /^m=.*$/m.exec(sdp)[0].trim();
      const mid = /^a=mid:.*$/m.exec(sdp)[0].trim();
      const lines = [ufrag, password, media, mid, ...this.#found.splice(0).filter((line) => line !== "a=")];
      // A fragment that is lost is no harm while the server's own candidates can be reached.
      fetch(this.#resource, {
        method: "PATCH",
        credentials: "same-origin",
        headers: this.#headers("application/trickle-ice-sdpfrag"),
        body: lines.join("\r\n") + "\r\n",
        signal: this.#aborted.signal,
      }).catch(() => {});
    }, BATCH_MS);
  }

  async #ask(path, options, kinds = KINDS) {
    let response;
    try {
      response = await fetch(path, { credentials: "same-origin", signal: this.#aborted.signal, ...options });
    } catch {
      throw new LegError("away", "The server cannot be reached.");
    }
    if (response.ok) return response;
    const { status } = response;
    throw new LegError(kinds[status] ?? "failed", (await reason(response)) || `The server answered ${status}.`, status);
  }

  #headers(type) {
    return { "Content-Type": type, Authorization: `Bearer ${this.#token}` };
  }

  #late() {
    const answered = this.peer?.remoteDescription;
    this.#down(answered ? new LegError("network", "No media can pass.") : new LegError("away", "The server does not answer."));
  }

  #down(error) {
    if (this.#over) return;
    this.#end();
    this.#tell("down", error);
  }

  #end() {
    this.#over = true;
    this.#up = false;
    for (const timer of [this.#deadline, this.#patience, this.#batch]) clearTimeout(timer);
    // An offer that is on its way is left to arrive where a goodbye is owed: only its answer names what has to end.
    if (!(this.#parting && this.#offered && !this.#resource)) this.#aborted.abort();
    this.peer?.close();
  }

  #goodbye() {
    if (!this.#resource) return;
    fetch(this.#resource, {
      method: "DELETE",
      credentials: "same-origin",
      headers: { Authorization: `Bearer ${this.#token}` },
      keepalive: true, // the page may be closing
    }).catch(() => {});
  }

  #tell(what, ...about) {
    this.#heard[what]?.(...about);
  }
}

async function reason(response) {
  try {
    const { error, detail } = await response.json();
    return [error, detail].find((one) => typeof one === "string") ?? "";
  } catch {
    return "";
  }
}
