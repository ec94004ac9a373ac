/**
 * How far this computer's clock is off the broadcaster's: latency is a difference of the two.
 *
 * All there is to read is the `Date` header, in whole seconds. Each answer says that the difference
 * lies in an interval; intervals of several answers are cut with each other.
 */
export class ServerClock {
  #lowMs = -Infinity;
  #highMs = Infinity;

  /**
   * @param dateMs the `Date` header, cut to whole seconds by the server
   * @param sentMs this computer's clock when the request went out
   * @param receivedMs and when the answer came
   */
  handleAnswer(dateMs: number, sentMs: number, receivedMs: number): void {
    if (!Number.isFinite(dateMs) || receivedMs < sentMs) return;
    // The server wrote between sent and received; its clock then was in [date, date + 1 s).
    const low = dateMs - receivedMs;
    const high = dateMs + 1000 - sentMs;
    const disjoint = low > this.#highMs || high < this.#lowMs;
    // One of the clocks was set: only the newest answer still counts.
    this.#lowMs = disjoint ? low : Math.max(low, this.#lowMs);
    this.#highMs = disjoint ? high : Math.min(high, this.#highMs);
  }

  /** Milliseconds to add to this computer's clock; 0 as long as the clocks may agree. */
  get offsetMs(): number {
    if (this.#lowMs <= 0 && this.#highMs >= 0) return 0;
    return (this.#lowMs + this.#highMs) / 2;
  }
}
