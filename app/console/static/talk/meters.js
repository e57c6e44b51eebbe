// Levels of both sides. Two numbers from 0 to 1, drawn by transforms only.

const FLOOR_DB = -60;
const FALL = 0.85; // of the last level, each frame: up at once, down gently
const CALM_MS = 250; // between two drawings for who asked for less motion

export class Meters {
  #sources = new Map(); // side -> {node, analyser, samples}
  #levels = { you: 0, agent: 0 };
  #context = null;
  #frame = 0;
  #drawn_ms = 0;
  #calm = matchMedia("(prefers-reduced-motion: reduce)");

  // `bars` and `halos`: {you, agent} elements
  constructor(bars, halos) {
    this.bars = bars;
    this.halos = halos;
  }

  // Browsers let sound be measured only after somebody touched the page.
  wake() {
    this.#context?.resume().catch(() => {});
  }

  // `stream` null: that side is silent from now on
  watch(side, stream) {
    this.#sources.get(side)?.node.disconnect();
    this.#sources.delete(side);
    if (stream?.getAudioTracks().length) {
      this.#context ??= new AudioContext();
      const analyser = this.#context.createAnalyser();
      analyser.fftSize = 512;
      const node = this.#context.createMediaStreamSource(stream);
      node.connect(analyser);
      this.#sources.set(side, { node, analyser, samples: new Float32Array(analyser.fftSize) });
      this.wake();
    }
    if (!this.#frame) this.#frame = requestAnimationFrame((now) => this.#turn(now));
  }

  #turn(now_ms) {
    let moving = this.#sources.size > 0;
    for (const side of Object.keys(this.#levels)) {
      const level = Math.max(this.#measure(side), this.#levels[side] * FALL);
      this.#levels[side] = level < 0.01 ? 0 : level;
      moving ||= level > 0;
    }
    if (!this.#calm.matches || now_ms - this.#drawn_ms >= CALM_MS || !moving) this.#draw(now_ms);
    this.#frame = moving ? requestAnimationFrame((now) => this.#turn(now)) : 0;
  }

  #measure(side) {
    const source = this.#sources.get(side);
    if (!source) return 0;
    source.analyser.getFloatTimeDomainData(source.samples);
    const power = source.samples.reduce((sum, one) => sum + one * one, 0) / source.samples.length;
    const db = power > 0 ? 10 * Math.log10(power) : FLOOR_DB;
    return Math.min(1, Math.max(0, 1 - db / FLOOR_DB) * 1.15);
  }

  #draw(now_ms) {
    this.#drawn_ms = now_ms;
    for (const [side, level] of Object.entries(this.#levels)) {
      this.bars[side].style.transform = `scaleX(${level.toFixed(3)})`;
      const halo = this.halos[side].style;
      halo.transform = this.#calm.matches ? "" : `scale(${(1 + 0.28 * level).toFixed(3)})`;
      halo.opacity = (level ? 0.25 + 0.6 * level : 0).toFixed(3);
    }
  }
}
