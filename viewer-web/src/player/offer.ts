/**
 * Which of the listed qualities can be had now. The broadcaster may pause one (its playlist is not
 * found then and the multivariant playlist leaves it out), or make one only while somebody asks for
 * it. Pure: who asks, and what the clock says, comes from outside.
 */

/** A quality as far as it matters here. */
export interface Offered {
  id: string;
  height: number;
}

/** First pause between two looks at the multivariant playlist while something is missing. */
const LOOK_MS = 3_000;
/** The same while nothing is left to show. */
const LOOK_BARE_MS = 1_000;
/** The longest one. */
const LOOK_MAX_MS = 10_000;
/** A quality that was asked for stays made at least this long: the broadcaster waits for 10 s. */
const WARM_MS = 8_000;
/** After an answer that was neither "here it is" nor "not found", it is not asked again for this long. */
const REFUSED_MS = 5_000;
/** The same when it has begun, and lacks only the rest of its first segment. */
const BEGINS_MS = 400;

export class Offer {
  /** Lowest first. */
  #listed: readonly Offered[] = [];
  readonly #paused = new Set<string>();
  /** What `info.json` says is being made; null while it said nothing. */
  #made: ReadonlySet<string> | null = null;
  readonly #answeredMs = new Map<string, number>();
  readonly #askAgainMs = new Map<string, number>();
  #missing = '';
  /** Picked by the viewer, and not among what was listed. */
  #awaited: string | null = null;
  #isAwaitedThere = false;
  #lookAtMs = Infinity;
  #lookPauseMs = LOOK_MS;

  /** What there is to choose from, once per source. */
  handleListed(qualities: readonly Offered[]): void {
    this.#listed = [...qualities].sort((a, b) => a.height - b.height);
  }

  /** The viewer picked a quality; one that is not listed is looked for. Null is automatic. */
  handlePicked(id: string | null, nowMs: number): void {
    const isListed = this.#listed.some((quality) => quality.id === id);
    const awaited = id === null || isListed || this.#heightOf(id) === null ? null : id;
    if (awaited === this.#awaited) return;
    this.#awaited = awaited;
    this.#isAwaitedThere = false;
    if (awaited === null) return;
    this.#lookPauseMs = LOOK_MS;
    this.#lookAtMs = nowMs;
  }

  /** A playlist was not found. */
  handleGone(id: string, nowMs: number): void {
    if (!this.#listed.some((quality) => quality.id === id) || this.#paused.has(id)) return;
    this.#paused.add(id);
    this.#answeredMs.delete(id);
    this.#lookPauseMs = LOOK_MS;
    this.#lookAtMs = nowMs + (this.#isBare ? LOOK_BARE_MS : LOOK_MS);
  }

  /** A playlist is there: whoever moves to it now does not wait. */
  handleAnswered(id: string, nowMs: number): void {
    this.#answeredMs.set(id, nowMs);
    this.#askAgainMs.delete(id);
  }

  /** A playlist was asked for in vain, but may come. */
  handleRefused(id: string, nowMs: number): void {
    this.#askAgainMs.set(id, nowMs + REFUSED_MS);
  }

  /** A playlist is there, but nothing can be played from it yet. */
  handleBegun(id: string, nowMs: number): void {
    this.#askAgainMs.set(id, nowMs + BEGINS_MS);
  }

  /** `info.json` names what is made now. What it leaves out sleeps or is paused: worth a look. */
  handleMade(ids: readonly string[], nowMs: number): void {
    if (ids.length === 0) return;
    this.#made = new Set(ids);
    const missing = this.#listed.filter(({ id }) => !ids.includes(id)).map(({ id }) => id);
    const key = missing.join();
    const isBack = ids.some((id) => this.#paused.has(id));
    if (key !== this.#missing || isBack) this.#lookAtMs = nowMs;
    if (key !== this.#missing) this.#lookPauseMs = LOOK_MS;
    this.#missing = key;
  }

  /** The multivariant playlist is about to be read. */
  handleLook(nowMs: number): void {
    this.#lookAtMs = nowMs + (this.#isBare ? LOOK_BARE_MS : this.#lookPauseMs);
    this.#lookPauseMs = Math.min(this.#lookPauseMs * 1.3, LOOK_MAX_MS);
  }

  /** It was read: the last word about what can be had. */
  handleMaster(ids: readonly string[]): void {
    // Of a playlist without any of the known addresses nothing can be said.
    if (!this.#listed.some(({ id }) => ids.includes(id))) return;
    for (const { id } of this.#listed) {
      if (ids.includes(id)) this.#paused.delete(id);
      else this.#paused.add(id);
    }
    this.#isAwaitedThere = this.#awaited !== null && ids.includes(this.#awaited);
    const isAll = this.#paused.size === 0 && this.#missing === '';
    if (isAll && (this.#awaited === null || this.#isAwaitedThere)) this.#lookAtMs = Infinity;
  }

  /** Whether what was picked is listed by now, so that opening afresh brings it. */
  get isOutdated(): boolean {
    return this.#isAwaitedThere;
  }

  /** When to read the multivariant playlist again; never while nothing is missing. */
  pollTimeout(): number {
    return this.#lookAtMs;
  }

  isPaused(id: string): boolean {
    return this.#paused.has(id);
  }

  /** Whether it is listed and not paused. */
  has(id: string): boolean {
    return this.#listed.some((quality) => quality.id === id) && !this.#paused.has(id);
  }

  /** Whether `info.json` says that it is made at this time; without its word, yes. */
  isMade(id: string): boolean {
    return this.has(id) && (this.#made?.has(id) ?? true);
  }

  /** Whether its playlist answered a moment ago. */
  isWarm(id: string, nowMs: number): boolean {
    return nowMs - (this.#answeredMs.get(id) ?? -Infinity) < WARM_MS;
  }

  mayAsk(id: string, nowMs: number): boolean {
    return nowMs >= (this.#askAgainMs.get(id) ?? -Infinity);
  }

  /**
   * What to show instead of a quality that cannot be had: the next lower one, or the next higher one
   * where there is none; rather one that is made than one that must be woken. Null: nothing is left.
   */
  insteadOf(id: string): string | null {
    const height = this.#heightOf(id);
    if (height === null) return null;
    const others = this.#listed.filter((quality) => quality.id !== id && this.has(quality.id));
    const lower = others.filter((quality) => quality.height <= height).reverse();
    const higher = others.filter((quality) => quality.height > height);
    const inOrder = [...lower, ...higher];
    return (inOrder.find((quality) => this.isMade(quality.id)) ?? inOrder[0])?.id ?? null;
  }

  get #isBare(): boolean {
    return this.#listed.every(({ id }) => this.#paused.has(id));
  }

  /** Also of one that the playlist did not list: ids say their height. Null: it means nothing. */
  #heightOf(id: string): number | null {
    const listed = this.#listed.find((quality) => quality.id === id);
    if (listed) return listed.height;
    if (id === 'source') return Infinity;
    const digits = /^(\d+)p/.exec(id)?.[1];
    return digits === undefined ? null : Number(digits);
  }
}
