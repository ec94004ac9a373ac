/** Small counters behind the statistics: pure, fed with what happened and when. */

/** Counts interruptions of a picture that had started. */
export class StallMeter {
  #stalls = 0;
  #stalledMs = 0;
  #sinceMs: number | null = null;

  /** The picture stands still against the viewer's will. Repeats are one stall. */
  handleStill(nowMs: number): void {
    if (this.#sinceMs !== null) return;
    this.#sinceMs = nowMs;
    this.#stalls += 1;
  }

  /** The picture moves, or the viewer stopped it. */
  handleMoving(nowMs: number): void {
    if (this.#sinceMs === null) return;
    this.#stalledMs += Math.max(0, nowMs - this.#sinceMs);
    this.#sinceMs = null;
  }

  get stalls(): number {
    return this.#stalls;
  }

  /** Seconds stood still, the current stall included. */
  stalledS(nowMs: number): number {
    const current = this.#sinceMs === null ? 0 : Math.max(0, nowMs - this.#sinceMs);
    return (this.#stalledMs + current) / 1000;
  }
}

/** A stretch of media that was put into the buffer. */
interface Stretch {
  startS: number;
  endS: number;
  bytes: number;
}

/** At most this many stretches wait to be played: an hour's window of half-second parts, two tracks. */
const STRETCHES_MAX = 14_400;

/** Turns playing time into bytes: how much of what was loaded has been shown. */
export class PlayedMeter {
  #waiting: Stretch[] = [];
  #bytes = 0;

  handleLoaded(startS: number, endS: number, bytes: number): void {
    if (!(endS > startS) || bytes <= 0) return;
    this.#waiting.push({ startS, endS, bytes });
    if (this.#waiting.length > STRETCHES_MAX) this.#waiting.shift();
  }

  /** The playhead went from one place to another by playing, not by a jump. */
  handlePlayed(fromS: number, toS: number): void {
    if (!(toS > fromS)) return;
    const kept: Stretch[] = [];
    for (const stretch of this.#waiting) {
      const start = Math.max(stretch.startS, fromS);
      const end = Math.min(stretch.endS, toS);
      if (end > start) {
        const share = (end - start) / (stretch.endS - stretch.startS);
        this.#bytes += stretch.bytes * Math.min(1, share);
      }
      if (stretch.endS > toS) kept.push(stretch);
    }
    this.#waiting = kept;
  }

  /** Positions start anew; what waited will not be shown. */
  handleReset(): void {
    this.#waiting = [];
  }

  get bytes(): number {
    return Math.round(this.#bytes);
  }
}

/** Round-trip time and its jitter, from the time to the first byte of answers that need no wait. */
export class RoundTripMeter {
  #rttMs: number | null = null;
  #jitterMs = 0;
  #lastMs: number | null = null;

  /** Smoothing as RFC 6298 (1/8) and RFC 3550 §6.4.1 (1/16). */
  handleSample(ms: number): void {
    if (!(ms >= 0)) return;
    this.#rttMs = this.#rttMs === null ? ms : this.#rttMs + (ms - this.#rttMs) / 8;
    if (this.#lastMs !== null) {
      this.#jitterMs += (Math.abs(ms - this.#lastMs) - this.#jitterMs) / 16;
    }
    this.#lastMs = ms;
  }

  get rttMs(): number {
    return this.#rttMs ?? 0;
  }

  get jitterMs(): number {
    return this.#jitterMs;
  }
}

/** Share of media requests that failed. */
export class LossMeter {
  #done = 0;
  #failed = 0;

  handleDone(): void {
    this.#done += 1;
  }

  handleFailed(): void {
    this.#failed += 1;
  }

  get ratio(): number {
    const all = this.#done + this.#failed;
    return all === 0 ? 0 : this.#failed / all;
  }
}
