// What a browser's statistics say about the network, from one look to the next (W3C "webrtc-stats").

export class Sampler {
  #received = 0;
  #lost = 0;
  #held_s = 0;
  #emitted = 0; // until this is known, what is held is the beginning's, which nobody waits for

  // {rtt_ms, jitter_ms, buffer_ms, lost (share of packets, 0 to 1)}; what is not known is null
  take(report) {
    let pair = null;
    let inbound = null;
    for (const one of report.values()) {
      if (one.type === "candidate-pair" && one.state === "succeeded" && (one.nominated || !pair)) pair = one;
      if (one.type === "inbound-rtp" && one.kind === "audio") inbound = one;
    }
    const told = { rtt_ms: ms(pair?.currentRoundTripTime), jitter_ms: ms(inbound?.jitter), buffer_ms: null, lost: null };
    if (!inbound) return told;
    const { packetsReceived = 0, packetsLost = 0, jitterBufferDelay = 0, jitterBufferEmittedCount = 0 } = inbound;
    const received = packetsReceived - this.#received;
    const lost = Math.max(0, packetsLost - this.#lost); // late packets may lower the count again
    if (received + lost > 0) told.lost = lost / (received + lost);
    const emitted = jitterBufferEmittedCount - this.#emitted;
    if (this.#emitted && emitted > 0) told.buffer_ms = ms((jitterBufferDelay - this.#held_s) / emitted);
    [this.#received, this.#lost, this.#held_s, this.#emitted] = [packetsReceived, packetsLost, jitterBufferDelay, jitterBufferEmittedCount];
    return told;
  }
}

function ms(seconds) {
  return seconds === undefined ? null : Math.round(seconds * 1000);
}
