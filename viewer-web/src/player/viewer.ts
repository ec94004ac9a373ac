/**
 * One video element that shows one live stream: the shell around `Playback` (what to do when) and a
 * `Source` (where media comes from). Timers, requests and the element itself are touched only here.
 */
import type { Viewer, ViewerEvents, ViewerOptions, ViewerState } from './api';
import { rememberBandwidth, rememberedBandwidth } from './bandwidth';
import { Description } from './description';
import { Emitter } from './emitter';
import { canUseHls, HlsSource } from './hls-source';
import { Hole, stretchAt, type Stretch } from './hole';
import type { StreamInfo } from './info';
import { LossMeter, PlayedMeter, RoundTripMeter, StallMeter } from './meters';
import { canPlayNatively, NativeSource } from './native-source';
import { Playback, type Command, type Phase } from './playback';
import { isRefilled, playbackRate, shouldJump } from './rate';
import type { Quality, Source, SourceEvents } from './source';
import { allQualities, isOutdated, videoIds } from './qualities';
import { History, NO_PEERS, type ViewerStats } from './stats';

/** Shows the stream `options.src` in `video` until `destroy()`. */
export function createViewer(video: HTMLVideoElement, options: ViewerOptions): Viewer {
  return new LiveViewer(video, options);
}

/** How often the shell looks around. */
const TICK_MS = 250;
/** Timers late by this much: the computer slept, or the page was frozen. */
const SLEPT_MS = 6_000;
/** Interruptions from this length on refill the buffer before the picture moves. */
const REFILL_AFTER_MS = 1_000;
/** However little comes, the picture is not held longer than this. */
const REFILL_MAX_MS = 2_500;
/** How long after its first frame a source counts as starting. */
const STARTING_MS = 1_500;
/** A pause in the picture this soon after a jump is part of the jump. */
const SEEK_SETTLES_MS = 500;
/** Still counted as live, seconds behind where the player wants to be. */
const LIVE_SLACK_S = 1.5;

class LiveViewer implements Viewer {
  readonly video: HTMLVideoElement;
  readonly history = new History();
  readonly #options: ViewerOptions;
  readonly #description: Description;
  readonly #startedAtMs: number;
  readonly #emitter = new Emitter<ViewerEvents>();
  readonly #playback: Playback;
  readonly #stalls = new StallMeter();
  readonly #played = new PlayedMeter();
  readonly #roundTrip = new RoundTripMeter();
  readonly #loss = new LossMeter();
  readonly #stop = new AbortController();
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #hole = new Hole();
  #holeTimer: ReturnType<typeof setTimeout> | undefined;
  #source: Source | null = null;
  #info: StreamInfo | null = null;
  #pinned: string | null;
  #wantsPlay: boolean;
  #following = true;
  #silenced = false;
  #firstFrameMs: number | null = null;
  #shown: string | null = null;
  #switches = 0;
  #bytesHttp = 0;
  #sessionOnOpen: number | null = null;
  #sessionChanged = false;
  /** The picked quality that the source was opened afresh for. */
  #openedFor: string | null = null;
  #position = 0;
  #stillSinceMs: number | null = null;
  #refillUntilMs = 0;
  #startingUntilMs = 0;
  #soughtAtMs = -Infinity;
  #pausedAtMs: number | null = null;
  #lastTickMs = performance.now();
  #ticks = 0;
  #lastState = '';
  #lastPhase: Phase = 'loading';

  constructor(video: HTMLVideoElement, options: ViewerOptions) {
    this.video = video;
    this.#options = options;
    this.#pinned = options.quality ?? null;
    this.#wantsPlay = options.autoplay ?? true;
    this.#startedAtMs = options.startedAtMs ?? performance.now();
    this.#description = new Description(options);
    this.#playback = new Playback({ hasInfo: this.#description.exists, random: Math.random });
    video.playsInline = true;
    if (options.poster !== undefined) video.poster = options.poster;
    this.#listen();
    this.#watchFirstFrame();
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    this.#playback.handleStart(performance.now());
    this.#obey();
  }

  get state(): ViewerState {
    const playback = this.#playback;
    return {
      phase: playback.phase,
      stream: playback.streamState,
      reachable: playback.reachable,
      atLive: playback.phase === 'playing' && !playback.replaying && this.#isAtLive(),
      stalled: this.#stillSinceMs !== null || this.video.seeking,
      replayable: playback.replayable,
      silenced: this.#silenced,
    };
  }

  get info(): StreamInfo | null {
    return this.#info;
  }

  get pinnedQuality(): string | null {
    return this.#pinned;
  }

  get qualities(): readonly Quality[] {
    return allQualities(this.#source?.qualities ?? [], this.#info, this.#pinned);
  }

  on<Name extends keyof ViewerEvents>(
    name: Name,
    listener: (value: ViewerEvents[Name]) => void,
  ): () => void {
    return this.#emitter.on(name, listener);
  }

  stats(): ViewerStats {
    const now = performance.now();
    return {
      ...NO_PEERS,
      latencyS: this.#latencyS(),
      bufferS: round(this.#bufferS(), 3),
      firstFrameMs: this.#firstFrameMs,
      stalls: this.#stalls.stalls,
      stalledS: round(this.#stalls.stalledS(now), 3),
      quality: this.#shown,
      qualitySwitches: this.#switches,
      bandwidthBps: this.#source?.bandwidthBps ?? 0,
      lossRatio: round(this.#loss.ratio, 4),
      jitterMs: round(this.#roundTrip.jitterMs, 1),
      rttMs: round(this.#roundTrip.rttMs, 1),
      bytesHttp: this.#bytesHttp,
      bytesPlayed: this.#played.bytes,
      p2p: 'off',
    };
  }

  setQuality(id: string | null): void {
    this.#pinned = id;
    this.#openedFor = null;
    this.#source?.setQuality(id);
    this.#emitter.emit('qualities', this.qualities);
  }

  play(): void {
    this.#wantsPlay = true;
    void this.#startPlaying();
  }

  pause(): void {
    this.video.pause();
  }

  seekBy(seconds: number): void {
    this.seekTo(this.video.currentTime + seconds);
  }

  seekTo(positionS: number): void {
    const { seekable } = this.video;
    if (seekable.length === 0) return;
    const live = this.#source?.livePositionS;
    const last = this.#playback.replaying ? null : live;
    const end = last ?? seekable.end(seekable.length - 1);
    const target = Math.min(Math.max(positionS, seekable.start(0)), end);
    this.#following = !this.#playback.replaying && end - target < LIVE_SLACK_S;
    this.video.currentTime = target;
    this.#notify();
  }

  goLive(): void {
    this.#following = true;
    this.#seekLive(0.3);
    this.play();
  }

  replay(): void {
    this.#playback.handleReplay(performance.now());
    this.#obey();
  }

  tryAgain(): void {
    this.#wantsPlay = true;
    this.#playback.handleTryAgain(performance.now());
    this.#obey();
  }

  destroy(): void {
    clearInterval(this.#timer);
    clearTimeout(this.#holeTimer);
    this.#stop.abort();
    this.#emitter.clear();
    this.#source?.destroy();
    this.#source = null;
  }

  /** Carries out what the machine wants done. */
  #obey(): void {
    for (
      let command = this.#playback.pollCommand();
      command;
      command = this.#playback.pollCommand()
    ) {
      this.#carryOut(command);
    }
    this.#notify();
  }

  #carryOut(command: Command): void {
    switch (command) {
      case 'open':
        this.#open();
        return;
      case 'close':
        this.#close();
        return;
      case 'load':
        this.#source?.load();
        return;
      case 'recover':
        this.#source?.recover();
        if (this.#wantsPlay) void this.#startPlaying();
        return;
      case 'seek-live':
        if (this.#following) this.#seekLive(LIVE_SLACK_S);
        return;
      case 'hold':
        this.video.pause();
        return;
      case 'replay':
        this.#following = false;
        this.video.currentTime = this.video.seekable.length > 0 ? this.video.seekable.start(0) : 0;
        this.play();
        return;
      case 'ask-info':
        void this.#askInfo();
    }
  }

  #open(): void {
    this.#close();
    this.#following = true;
    this.#sessionOnOpen = null;
    this.#sessionChanged = false;
    this.#played.handleReset();
    this.#hole.handleSeek();
    const events = this.#sourceEvents();
    const url = this.#options.src;
    if (canUseHls()) {
      const bandwidthBps = rememberedBandwidth();
      this.#source = new HlsSource(this.video, {
        url,
        quality: this.#pinned,
        bandwidthBps,
        made: videoIds(this.#info),
        events,
      });
    } else if (canPlayNatively(this.video)) {
      this.#source = new NativeSource(this.video, { url, events });
    } else {
      // Not at once: the caller is still carrying out the command that led here.
      queueMicrotask(() => events.onFault('unsupported', 'this browser cannot play HLS'));
    }
  }

  #close(): void {
    const source = this.#source;
    if (!source) return;
    rememberBandwidth(source.bandwidthBps);
    this.#source = null;
    source.destroy();
    this.#position = 0;
  }

  #sourceEvents(): SourceEvents {
    const reopen = (): void => {
      this.#playback.handleOutdated(performance.now());
      this.#obey();
    };
    return {
      onOpened: () => {
        this.#playback.handleOpened(performance.now());
        if (this.#wantsPlay) void this.#startPlaying();
        this.#emitter.emit('qualities', this.qualities);
        this.#obey();
      },
      onFault: (fault, detail) => {
        this.#playback.handleFault(fault, performance.now());
        this.#emitter.emit('error', { fault, detail, fatal: this.#playback.phase === 'failed' });
        this.#obey();
      },
      onEndList: () => {
        this.#playback.handleEndList(performance.now());
        this.#obey();
      },
      onQuality: (id) => {
        if (this.#shown !== null && this.#shown !== id) this.#switches += 1;
        this.#shown = id;
        this.#emitter.emit('qualities', this.qualities);
      },
      onOffer: () => {
        this.#emitter.emit('qualities', this.qualities);
      },
      onOutdated: () => {
        // Once: where it still is not among the levels, this browser cannot play it.
        if (this.#openedFor === this.#pinned) return;
        this.#openedFor = this.#pinned;
        reopen();
      },
      onBack: reopen,
      onLoaded: (bytes, ttfbMs) => {
        this.#bytesHttp += bytes;
        this.#playback.handleData(performance.now());
        this.#loss.handleDone();
        if (ttfbMs !== null) this.#roundTrip.handleSample(ttfbMs);
      },
      onLoadFailed: () => this.#loss.handleFailed(),
      onStretch: (startS, endS, bytes) => this.#played.handleLoaded(startS, endS, bytes),
      onSession: (session) => {
        if (this.#sessionOnOpen === null) {
          this.#sessionOnOpen = session;
        } else {
          this.#sessionChanged = true;
          void this.#askInfo();
        }
      },
    };
  }

  #listen(): void {
    const { signal } = this.#stop;
    const { video } = this;
    const on = (target: EventTarget, name: string, listener: () => void): void =>
      target.addEventListener(name, listener, { signal });
    on(video, 'pause', () => this.#handlePause());
    on(video, 'play', () => this.#handlePlay());
    on(video, 'waiting', () => this.#handleStill());
    on(video, 'seeking', () => {
      this.#soughtAtMs = performance.now();
      this.#hole.handleSeek();
    });
    on(video, 'ended', () => {
      this.#playback.handleVideoEnded();
      this.#obey();
    });
    on(video, 'volumechange', () => {
      if (!video.muted) this.#silenced = false;
      this.#notify();
    });
    on(document, 'visibilitychange', () => {
      if (document.visibilityState === 'visible') this.#wake();
    });
    on(window, 'online', () => this.#wake());
    on(window, 'pageshow', () => this.#wake());
    on(window, 'pagehide', () => rememberBandwidth(this.#source?.bandwidthBps ?? 0));
  }

  #watchFirstFrame(): void {
    const { video } = this;
    const note = (nowMs: number): void => {
      this.#firstFrameMs ??= Math.round(nowMs - this.#startedAtMs);
      this.#startingUntilMs = performance.now() + STARTING_MS;
    };
    if ('requestVideoFrameCallback' in video) {
      video.requestVideoFrameCallback((_now, { presentationTime }) => {
        note(presentationTime);
        this.#handleProgress();
      });
    } else {
      (video as HTMLVideoElement).addEventListener('loadeddata', () => note(performance.now()), {
        once: true,
        signal: this.#stop.signal,
      });
    }
  }

  async #startPlaying(): Promise<void> {
    try {
      await this.video.play();
    } catch (error) {
      if (!(error instanceof DOMException) || error.name !== 'NotAllowedError') return;
      if (this.video.muted) {
        // Not even without sound (a power saver): the play button is there.
        this.#wantsPlay = false;
        this.#playback.handlePaused(true, performance.now());
        this.#notify();
        return;
      }
      this.video.muted = true;
      this.#silenced = true;
      this.#notify();
      await this.#startPlaying();
    }
  }

  #handlePause(): void {
    if (this.video.ended || this.#playback.phase === 'ended') return;
    this.#wantsPlay = false;
    this.#pausedAtMs = performance.now();
    this.#handleMoving();
    this.#playback.handlePaused(true, performance.now());
    this.#notify();
  }

  #handlePlay(): void {
    const now = performance.now();
    this.#wantsPlay = true;
    // Who paused wants to go on where it stood, not to be thrown to the live edge.
    if (this.#pausedAtMs !== null && now - this.#pausedAtMs > 1_000) this.#following = false;
    this.#pausedAtMs = null;
    this.#playback.handlePaused(false, now);
    this.#notify();
  }

  #handleStill(): void {
    const { video } = this;
    if (this.#firstFrameMs === null || video.paused || video.seeking || video.ended) return;
    const now = performance.now();
    if (this.#stillSinceMs !== null || now - this.#soughtAtMs < SEEK_SETTLES_MS) return;
    this.#stillSinceMs = now;
    this.#stalls.handleStill(now);
    this.#notify();
  }

  #handleMoving(): void {
    if (this.#stillSinceMs === null) return;
    this.#stillSinceMs = null;
    this.#stalls.handleMoving(performance.now());
  }

  #handleProgress(): void {
    this.#handleMoving();
    this.#playback.handleProgress(performance.now());
    this.#obey();
  }

  #wake(): void {
    this.#playback.handleWake(performance.now());
    this.#obey();
  }

  #tick(): void {
    const now = performance.now();
    const slept = now - this.#lastTickMs > SLEPT_MS;
    this.#lastTickMs = now;
    this.#ticks += 1;
    this.#watchProgress();
    if (slept) this.#playback.handleWake(now);
    if (now >= this.#playback.pollTimeout()) this.#playback.handleTimeout(now);
    this.#passHoles();
    this.#steer(now);
    if (this.#ticks % 2 === 0) this.#sample(now);
    if (this.#ticks % 4 === 0) this.#emitter.emit('stats', this.stats());
    this.#obey();
  }

  #watchProgress(): void {
    const { video } = this;
    const position = video.currentTime;
    const step = position - this.#position;
    if (step > 0 && !video.seeking && this.#firstFrameMs !== null) {
      // A tick is 0.25 s, up to a minute in a hidden page; further is a jump, not playing.
      if (step < (TICK_MS / 1000) * 4) this.#played.handlePlayed(this.#position, position);
      if (!video.paused && video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA) {
        this.#handleProgress();
      }
    }
    this.#position = position;
  }

  /** Goes over media that is missing. */
  #passHoles(): void {
    const { video } = this;
    clearTimeout(this.#holeTimer);
    if (video.paused || video.seeking) return;
    const livePositionS = this.#following ? (this.#source?.livePositionS ?? null) : null;
    const buffered = this.#buffered();
    const seekS = this.#hole.poll({ playheadS: video.currentTime, buffered, livePositionS });
    if (seekS !== null) {
      video.currentTime = seekS;
      return;
    }
    // A tick late would be pictures lost.
    const inMs = ((this.#hole.aheadS ?? Infinity) * 1000) / (video.playbackRate || 1);
    if (inMs < TICK_MS) this.#holeTimer = setTimeout(() => this.#passHoles(), inMs);
  }

  /** Keeps the distance to the live edge. */
  #steer(now: number): void {
    const { video } = this;
    const source = this.#source;
    const distance = source?.distance;
    if (!source || !distance || !this.#following || video.paused || this.#playback.replaying) {
      if (video.playbackRate !== 1) video.playbackRate = 1;
      return;
    }
    const bufferS = this.#bufferS();
    const targetS = distance.targetS;
    const still = this.#stillSinceMs;
    if (still !== null && now - still > REFILL_AFTER_MS && bufferS < 0.1) {
      this.#refillUntilMs = now + REFILL_MAX_MS;
    }
    const refilling = now < this.#refillUntilMs;
    if (refilling && isRefilled({ targetS, bufferS })) this.#refillUntilMs = 0;
    const live = source.livePositionS;
    if (live !== null && !video.seeking) {
      const starting = now < this.#startingUntilMs;
      const playheadS = video.currentTime;
      if (shouldJump({ playheadS, livePositionS: live, bufferS, starting })) {
        this.#startingUntilMs = 0;
        this.#seekLive(0);
        return;
      }
    }
    const rate = playbackRate({ ...distance, bufferS, refilling });
    if (video.playbackRate !== rate) video.playbackRate = rate;
  }

  #seekLive(slackS: number): void {
    const live = this.#source?.livePositionS ?? null;
    if (live !== null && live - this.video.currentTime > slackS) this.video.currentTime = live;
  }

  #sample(now: number): void {
    this.history.push({
      atMs: now,
      latencyS: this.#latencyS(),
      bufferS: this.#bufferS(),
      quality: this.#shown,
    });
  }

  async #askInfo(): Promise<void> {
    const answer = await this.#description.ask();
    if (answer === null || this.#stop.signal.aborted) return;
    if (answer === 'missing') {
      this.#playback.handleInfo({ kind: 'missing' }, performance.now());
    } else {
      this.#handleInfo(answer === 'unreachable' ? null : answer);
    }
    this.#obey();
  }

  #handleInfo(info: StreamInfo | null): void {
    const now = performance.now();
    if (!info) {
      this.#playback.handleInfo({ kind: 'unreachable' }, now);
      return;
    }
    const before = this.#info;
    this.#info = info;
    this.#playback.handleInfo({ kind: 'stream', ...info }, now);
    const made = videoIds(info);
    const listed = this.#source?.qualities ?? [];
    if (this.#sessionChanged && isOutdated(listed, info, before)) {
      this.#playback.handleOutdated(now);
    }
    if (info.state === 'live') this.#sessionChanged = false;
    this.#source?.setMade(made);
    this.#emitter.emit('info', info);
    this.#emitter.emit('qualities', this.qualities);
  }

  /** Tells the page, once per change. */
  #notify(): void {
    const state = this.state;
    const key = JSON.stringify(state);
    if (key === this.#lastState) return;
    this.#lastState = key;
    const before = this.#lastPhase;
    this.#lastPhase = state.phase;
    this.#emitter.emit('state', state);
    if (before === state.phase) return;
    if (state.phase === 'playing' && !this.#playback.replaying) this.#emitter.emit('live', state);
    else if (state.phase === 'waiting') this.#emitter.emit('waiting', state);
    else if (state.phase === 'ended') this.#emitter.emit('ended', state);
  }

  #isAtLive(): boolean {
    if (!this.#following) {
      const live = this.#source?.livePositionS ?? null;
      return live !== null && live - this.video.currentTime < LIVE_SLACK_S && !this.video.paused;
    }
    return !this.video.paused;
  }

  #latencyS(): number | null {
    if (this.#firstFrameMs === null || this.#playback.replaying) return null;
    const shownMs = this.#source?.playingDateMs ?? null;
    if (shownMs === null) return null;
    return round((Date.now() + this.#description.clock.offsetMs - shownMs) / 1000, 3);
  }

  #bufferS(): number {
    const { currentTime } = this.video;
    const here = stretchAt(currentTime, this.#buffered());
    return here ? here[1] - currentTime : 0;
  }

  #buffered(): Stretch[] {
    const { buffered } = this.video;
    return Array.from({ length: buffered.length }, (_, i) => [buffered.start(i), buffered.end(i)]);
  }
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
