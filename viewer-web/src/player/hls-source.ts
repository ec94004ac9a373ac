/** Media by hls.js: Low-Latency HLS with parts, over Media Source Extensions. */
import Hls, { ErrorDetails, ErrorTypes, Events, type ErrorData, type Level } from 'hls.js';
import { Asker, type Answer } from './asker';
import { Boundary } from './boundary';
import { hlsConfig } from './hls-config';
import { Offer } from './offer';
import type { Fault } from './playback';
import { renditionOf, sessionOf } from './path';
import type { Quality, Source, SourceEvents } from './source';

/** Whether this browser can play this way (Media Source or Managed Media Source). */
export function canUseHls(): boolean {
  return Hls.isSupported();
}

/** From this much buffered on, a change of quality replaces it, in seconds. */
const REPLACE_FROM_S = 4;

/** With less than this buffered, a change does not wait for the end of a segment, in seconds. */
const EMERGENCY_S = 0.5;

/** How often it is looked whether a change is due, in milliseconds. */
const TURN_MS = 200;

/** A quality that is gone is left after this long even in the middle of a segment, in milliseconds. */
const LEAVE_MAX_MS = 1_000;

/** What to open, and how. */
export interface HlsSourceOptions {
  url: string;
  quality: string | null;
  /** From an earlier visit, if known. */
  bandwidthBps: number | null;
  /** What `info.json` said is made now; empty when it said nothing. */
  made: readonly string[];
  events: SourceEvents;
}

export class HlsSource implements Source {
  readonly #hls: Hls;
  readonly #url: string;
  readonly #video: HTMLVideoElement;
  readonly #events: SourceEvents;
  readonly #stop = new AbortController();
  readonly #boundary = new Boundary();
  readonly #offer = new Offer();
  readonly #asker = new Asker();
  readonly #timer: ReturnType<typeof setInterval>;
  #pinned: string | null;
  /** The level to go on with at the next boundary, -1 for automatic; null when nothing is to change. */
  #wanted: number | null = null;
  /** Since when the level that is being loaded is gone; null while it is there. */
  #goneSinceMs: number | null = null;
  /** The level whose playlist was not found, so that hls.js has stopped asking for it. */
  #dropped: Level | null = null;
  /** Whether what was loaded is in the buffer: until then a change of level would lose it. */
  #settled = true;
  /** The segment that is known to be there in another level, to go on with from a level that is gone. */
  #begun: { level: number; sn: number } | null = null;
  #playing = -1;
  #shown: string | null = null;
  #session: number | null = null;
  #paused = '';

  constructor(video: HTMLVideoElement, options: HlsSourceOptions) {
    const { url, quality, bandwidthBps, made, events } = options;
    this.#video = video;
    this.#url = url;
    this.#events = events;
    this.#pinned = quality;
    this.#offer.handleMade(made, performance.now());
    this.#hls = new Hls(
      hlsConfig(bandwidthBps, events, {
        choose: (wanted) => this.#choose(wanted),
        leave: (playlist) => this.#handleGone(playlist),
      }),
    );
    this.#listen(events);
    this.#timer = setInterval(() => this.#turn(), TURN_MS);
    this.#hls.attachMedia(video);
    this.#hls.loadSource(url);
  }

  get qualities(): readonly Quality[] {
    return this.#hls.levels.map((level) => this.#qualityOf(level)).reverse();
  }

  setQuality(id: string | null): void {
    this.#pinned = id;
    this.#offer.handlePicked(id, performance.now());
    this.#aim();
    this.#applyWanted();
  }

  setMade(ids: readonly string[]): void {
    this.#offer.handleMade(ids, performance.now());
  }

  load(): void {
    this.#boundary.handleReset();
    this.#hls.startLoad(-1);
  }

  recover(): void {
    this.#boundary.handleReset();
    this.#hls.recoverMediaError();
  }

  get livePositionS(): number | null {
    return this.#hls.liveSyncPosition;
  }

  get distance(): { latencyS: number; targetS: number } | null {
    const targetS = this.#hls.targetLatency;
    if (targetS === null || !this.#hls.latestLevelDetails?.live) return null;
    return { latencyS: this.#hls.latency, targetS };
  }

  get playingDateMs(): number | null {
    return this.#hls.playingDate?.getTime() ?? null;
  }

  get bandwidthBps(): number {
    const estimate = this.#hls.bandwidthEstimate;
    return Number.isFinite(estimate) ? Math.round(estimate) : 0;
  }

  destroy(): void {
    clearInterval(this.#timer);
    this.#asker.stop();
    this.#stop.abort();
    this.#hls.destroy();
  }

  #listen(events: SourceEvents): void {
    const hls = this.#hls;
    hls.on(Events.MANIFEST_PARSED, () => {
      this.#offer.handleListed(
        hls.levels.map((level) => ({ id: idOf(level), height: level.height })),
      );
      this.#offer.handlePicked(this.#pinned, performance.now());
      const level = this.#levelOf(this.#target());
      if (level !== -1) {
        hls.startLevel = level;
        hls.loadLevel = level;
      }
      events.onOpened();
    });
    hls.on(Events.LEVEL_UPDATED, (_event, { details }) => {
      this.#applyWanted();
      if (!details.live) events.onEndList();
      const session = sessionOf(details.fragments.at(-1)?.url ?? '');
      if (session !== null && session !== this.#session) {
        this.#session = session;
        events.onSession(session);
      }
    });
    hls.on(Events.LEVEL_SWITCHING, () => {
      this.#dropped = null;
    });
    hls.on(Events.LEVEL_SWITCHED, (_event, { level }) => {
      this.#playing = level;
      this.#reportQuality(events);
    });
    this.#video.addEventListener('resize', () => this.#reportQuality(events), {
      signal: this.#stop.signal,
    });
    hls.on(Events.FRAG_LOADED, (_event, { frag, part, payload }) => {
      const { start, duration } = part ?? frag;
      events.onStretch(start, start + duration, payload.byteLength);
      const type: string = frag.type;
      if (type !== 'main' || typeof frag.sn !== 'number') return;
      this.#boundary.handleLoaded(frag.sn, part?.index ?? null);
      this.#settled = false;
    });
    hls.on(Events.FRAG_BUFFERED, (_event, { frag }) => {
      const type: string = frag.type;
      if (type !== 'main') return;
      this.#settled = true;
      this.#turn();
    });
    hls.on(Events.ERROR, (_event, data) => {
      if (!data.fatal) return;
      events.onFault(faultOf(data), data.details);
    });
  }

  /** What is due: leaving what is gone, going over to what was picked, looking for what is missing. */
  #turn(): void {
    const nowMs = performance.now();
    if (nowMs >= this.#offer.pollTimeout()) {
      this.#offer.handleLook(nowMs);
      this.#asker.look(this.#url, (ids) => {
        this.#offer.handleMaster(ids);
        // hls.js reads its playlist only once, and cannot take in what came later.
        if (this.#offer.isOutdated) this.#events.onOutdated();
        else this.#handleOffer();
      });
    }
    this.#penalize();
    if (!this.#leaveGone(nowMs)) this.#applyWanted();
  }

  /** A playlist is not there any more. False: there never was another, so that is a fault. */
  #handleGone(playlist: string): boolean {
    const level = this.#hls.levels.find(({ uri }) => playlist.startsWith(uri));
    if (!level || this.#hls.levels.length === 1) return false;
    this.#offer.handleGone(idOf(level), performance.now());
    this.#dropped = level;
    // Not at once: hls.js is still busy with the answer.
    queueMicrotask(() => {
      if (!this.#stop.signal.aborted) this.#handleOffer();
    });
    return true;
  }

  /** What can be had has changed, or may have. */
  #handleOffer(): void {
    const paused = this.#hls.levels.map(idOf).filter((id) => this.#offer.isPaused(id));
    const key = paused.join();
    if (key !== this.#paused) {
      this.#paused = key;
      this.#aim();
      this.#events.onOffer();
    }
    this.#turn();
  }

  /** Keeps hls.js away from what is paused, and lets it go back afterwards. */
  #penalize(): void {
    for (const level of this.#hls.levels) {
      if (this.#offer.isPaused(idOf(level))) {
        level.loadError = 1;
        // Without a time the penalty does not expire by itself.
        level.loadErrorTime = 0;
      } else if (level.loadError > 0 && level.loadErrorTime === 0) {
        level.loadError = 0;
        level.fragmentError = 0;
        // What was known of it is long out of the playlist.
        if (level !== this.#hls.levels[this.#hls.loadLevel]) delete level.details;
      }
    }
  }

  /** Goes on elsewhere when the level that is being loaded is gone. True while it is. */
  #leaveGone(nowMs: number): boolean {
    const hls = this.#hls;
    const gone = hls.levels[hls.loadLevel];
    if (!gone || !this.#offer.isPaused(idOf(gone))) {
      this.#goneSinceMs = null;
      if (!gone || gone !== this.#dropped) return false;
      // It may be back, and nothing else was there in the meantime.
      const id = idOf(gone);
      if (this.#offer.mayAsk(id, nowMs))
        this.#asker.ask(gone.uri, (answer) => this.#handleBack(gone, answer));
      return true;
    }
    this.#goneSinceMs ??= nowMs;
    const target = this.#levelOf(this.#offer.insteadOf(idOf(gone)));
    const hurry = this.#bufferS < EMERGENCY_S || nowMs - this.#goneSinceMs > LEAVE_MAX_MS;
    if (target === -1 || !(hurry || this.#mayLeave(gone, target))) return true;
    this.#goneSinceMs = null;
    if (this.#pinned === null) {
      hls.nextLoadLevel = target;
    } else {
      hls.loadLevel = target;
      this.#aim();
    }
    return true;
  }

  /** What came of asking for the level that everything waits for. */
  #handleBack(level: Level, answer: Answer): void {
    const stillWaits = level === this.#dropped;
    this.#handleAnswer(idOf(level), answer);
    // hls.js takes its request, whose answer it never got, for one under way: it must begin anew.
    if (stillWaits && answer === 'here') this.#events.onBack();
  }

  /** Whether all that is listed is loaded, and the segment that follows has begun in the other level. */
  #mayLeave(gone: Level, index: number): boolean {
    const parts = partsOf(gone);
    const sn = this.#boundary.nextSn;
    if (!parts || sn === null) return true;
    if (!this.#settled || !this.#boundary.hasAllListed(parts)) return false;
    if (this.#begun?.level === index && this.#begun.sn === sn) return true;
    const level = this.#hls.levels[index];
    if (!level) return true;
    const url = new URL(level.uri, location.href);
    url.searchParams.set('_HLS_msn', String(sn));
    url.searchParams.set('_HLS_part', '0');
    this.#asker.ask(url.href, (answer) => {
      if (answer === 'here') this.#begun = { level: index, sn };
      this.#handleAnswer(idOf(level), answer);
    });
    return false;
  }

  /** The quality to show by hand: the picked one, or what comes next to it; null for automatic. */
  #target(): string | null {
    const pinned = this.#pinned;
    if (pinned === null || this.#offer.has(pinned)) return pinned;
    return this.#offer.insteadOf(pinned);
  }

  #aim(): void {
    const level = this.#levelOf(this.#target());
    this.#wanted = level === this.#hls.manualLevel ? null : level;
  }

  /** Goes over to the picked quality as soon as that costs nothing. */
  #applyWanted(): void {
    const wanted = this.#wanted;
    if (wanted === null || !this.#isReady(wanted)) return;
    if (this.#bufferS >= REPLACE_FROM_S) {
      // Far from the live edge nobody would see the change for long: replace what is buffered.
      this.#wanted = null;
      this.#hls.nextLevel = wanted;
    } else if (wanted === -1 || (this.#settled && this.#mayChange())) {
      this.#wanted = null;
      this.#hls.loadLevel = wanted;
    }
  }

  /** What the bandwidth suggests, as far as it can be had without waiting. */
  #choose(wanted: number): number {
    const { levels, loadLevel } = this.#hls;
    const level = levels[wanted];
    const current = levels[loadLevel];
    if (!level || wanted === loadLevel) return wanted;
    const id = idOf(level);
    if (!current) {
      // The first level of all: one that sleeps would take seconds.
      const other = this.#offer.isMade(id) ? null : this.#offer.insteadOf(id);
      return other !== null && this.#offer.isMade(other) ? this.#levelOf(other) : wanted;
    }
    if (this.#offer.isPaused(idOf(current))) return loadLevel;
    const target = this.#offer.has(id) ? wanted : this.#levelOf(this.#offer.insteadOf(id), wanted);
    const goes = target === loadLevel || (this.#isReady(target) && this.#mayChange());
    return goes ? target : loadLevel;
  }

  /**
   * Whether a level's playlist is there. If it may not be, it is asked for first: one that is made on
   * demand answers after seconds, which nobody notices while the old level plays on.
   */
  #isReady(index: number): boolean {
    const { levels, loadLevel } = this.#hls;
    const level = levels[index];
    if (!level || index === loadLevel || loadLevel === -1) return true;
    const id = idOf(level);
    const nowMs = performance.now();
    if (this.#offer.isWarm(id, nowMs)) return true;
    if (this.#bufferS < EMERGENCY_S && this.#offer.isMade(id)) return true;
    if (this.#offer.mayAsk(id, nowMs)) {
      this.#asker.ask(level.uri, (answer) => this.#handleAnswer(id, answer));
    }
    return false;
  }

  #handleAnswer(id: string, answer: Answer): void {
    const nowMs = performance.now();
    if (answer === 'here') this.#offer.handleAnswered(id, nowMs);
    else if (answer === 'begins') this.#offer.handleBegun(id, nowMs);
    else if (answer === 'gone') this.#offer.handleGone(id, nowMs);
    else this.#offer.handleRefused(id, nowMs);
    this.#handleOffer();
  }

  get #bufferS(): number {
    return this.#hls.mainForwardBufferInfo?.len ?? 0;
  }

  #mayChange(): boolean {
    const level = this.#hls.levels[this.#hls.loadLevel];
    const parts = level ? partsOf(level) : null;
    if (!level?.details || !parts || this.#bufferS < EMERGENCY_S) return true;
    return this.#boundary.isAt({ endSn: level.details.endSN, parts });
  }

  /**
   * hls.js tells what the buffer holds at the playhead, and wavers where two qualities overlap; the
   * size of the picture tells what is shown. Only what both agree on counts.
   */
  #reportQuality(events: SourceEvents): void {
    const { levels } = this.#hls;
    const { videoWidth, videoHeight } = this.#video;
    const fits = levels.filter(
      ({ width, height }) => width === videoWidth && height === videoHeight,
    );
    const playing = levels[this.#playing];
    const shown = playing && (fits.length === 0 || fits.includes(playing)) ? playing : fits[0];
    if (!shown || (shown !== playing && fits.length > 1)) return;
    const id = idOf(shown);
    if (id === this.#shown) return;
    this.#shown = id;
    events.onQuality(id);
  }

  #levelOf(id: string | null, otherwise = -1): number {
    const at = id === null ? -1 : this.#hls.levels.findIndex((level) => idOf(level) === id);
    return at === -1 ? otherwise : at;
  }

  #qualityOf(level: Level): Quality {
    const id = idOf(level);
    const { width, height, frameRate: fps, bitrate } = level;
    return { id, width, height, fps, bitrate, paused: this.#offer.isPaused(id) };
  }
}

function idOf(level: Level): string {
  return renditionOf(level.url[0] ?? '') ?? (level.name || `${level.height}p`);
}

/** The parts that a level lists; null when it has none. */
function partsOf({ details }: Level): { sn: number; index: number }[] | null {
  return details?.partList?.map(({ fragment, index }) => ({ sn: fragment.sn, index })) ?? null;
}

function faultOf(data: ErrorData): Fault {
  if (data.details === ErrorDetails.MANIFEST_INCOMPATIBLE_CODECS_ERROR) return 'unsupported';
  if (data.details === ErrorDetails.MANIFEST_LOAD_ERROR && data.response?.code === 404) {
    return 'not-found';
  }
  if (data.type === ErrorTypes.NETWORK_ERROR) {
    // Parsing errors are of this type too, but loading again would read the same thing.
    const parsing =
      data.details === ErrorDetails.LEVEL_PARSING_ERROR ||
      data.details === ErrorDetails.MANIFEST_PARSING_ERROR;
    return parsing ? 'broken' : 'network';
  }
  if (data.type === ErrorTypes.MEDIA_ERROR) return 'media';
  return 'broken';
}
