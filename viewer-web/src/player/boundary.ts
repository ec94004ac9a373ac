/**
 * Where the quality may change without loading anything twice: between two segments. Only a
 * segment's first part starts with a key frame, so a change inside one means loading that segment
 * again from its start, over frames that may be on screen already. Pure.
 */

/** What a playlist says about its newest segments. */
export interface ListedSegments {
  /** The newest segment that is complete. */
  endSn: number;
  /** The listed parts, oldest first. */
  parts: readonly { sn: number; index: number }[];
}

export class Boundary {
  #last: { sn: number; part: number | null } | null = null;

  /** A part was loaded, or with `part` null a whole segment. */
  handleLoaded(sn: number, part: number | null): void {
    this.#last = { sn, part };
  }

  /** Loading starts anew, somewhere else. */
  handleReset(): void {
    this.#last = null;
  }

  /** The segment that the next change would begin with; null when it does not matter. */
  get nextSn(): number | null {
    const last = this.#last;
    return typeof last?.part === 'number' ? last.sn + 1 : null;
  }

  /** Whether the newest segment begun was loaded as far as it is listed: no more of it may come. */
  hasAllListed(parts: ListedSegments['parts']): boolean {
    const last = this.#last;
    if (typeof last?.part !== 'number') return true;
    const indexes = parts.filter(({ sn }) => sn === last.sn).map(({ index }) => index);
    return last.part >= Math.max(-1, ...indexes);
  }

  /**
   * Whether what comes next is the start of a segment, and listed: without a next one to begin with,
   * hls.js loads the last segment once more, over what is on screen.
   */
  isAt({ endSn, parts }: ListedSegments): boolean {
    const last = this.#last;
    if (typeof last?.part !== 'number') return true;
    const goesOn = endSn > last.sn || parts.some(({ sn }) => sn > last.sn);
    return last.sn <= endSn && goesOn && this.hasAllListed(parts);
  }
}
