/**
 * Missing media, and when to go over it: pure.
 *
 * Where picture is missing and sound is not, the playhead goes on with the sound, through the hole
 * and out of it. Chromium does not show the picture behind a hole before a jump there, and names it
 * as missing only 3 s later.
 */

/** This close to where media is missing, there is nothing to play, in seconds. */
const EDGE_S = 0.1;

/** A stretch of media that is loaded: start and end in seconds. */
export type Stretch = readonly [number, number];

export interface HoleInput {
  playheadS: number;
  /** What is loaded, in order. */
  buffered: readonly Stretch[];
  /** Where the playhead should be; null for who does not follow the live edge. */
  livePositionS: number | null;
}

/** The stretch that the playhead is in, or just before. */
export function stretchAt(playheadS: number, buffered: readonly Stretch[]): Stretch | undefined {
  return buffered.find(([startS, endS]) => playheadS >= startS - EDGE_S && playheadS <= endS);
}

export class Hole {
  /** How far there was media when the playhead last had some, since the last jump. */
  #endS: number | null = null;
  #aheadS: number | null = null;

  /** The playhead was moved, or other media is played. */
  handleSeek(): void {
    this.#endS = null;
    this.#aheadS = null;
  }

  /** Where to jump to; null for nowhere. */
  poll({ playheadS, buffered, livePositionS }: HoleInput): number | null {
    const next = buffered.find(([startS]) => startS > playheadS + EDGE_S)?.[0] ?? null;
    const here = stretchAt(playheadS, buffered);
    this.#aheadS = null;
    if (here) {
      const [startS, endS] = here;
      if (this.#endS !== null && startS > this.#endS) return Math.max(startS, playheadS);
      this.#endS = endS;
      if (endS - playheadS >= EDGE_S) return null;
    }
    if (next === null) return null;
    // As soon as it is due there. Waiting for the distance that calls for a jump to the live edge
    // would only lengthen the pause.
    if (livePositionS !== null && livePositionS >= next) return next;
    this.#aheadS = next - playheadS;
    return null;
  }

  /** How far the playhead is from media behind the hole that it is in, in seconds; null if in none. */
  get aheadS(): number | null {
    return this.#aheadS;
  }
}
