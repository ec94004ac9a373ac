/**
 * What the player does when, as a pure state machine: no clock, timer, socket or dice of its own.
 *
 * The shell (viewer.ts) tells it what happened (`handle…`), carries out the commands that
 * `pollCommand` gives, and calls `handleTimeout` no later than `pollTimeout` says. The promise: from
 * every state that is not `destroyed` there is a next timeout, so a viewer never sits before a dead
 * picture: it plays again by itself once the stream is there again.
 */

/** What the viewer sees. */
export type Phase =
  /** Nothing shown yet, the stream is being opened. */
  | 'loading'
  /** The stream exists, nobody publishes to it. */
  | 'waiting'
  /** The picture moves (or is paused by the viewer). */
  | 'playing'
  /** The picture stood still for a while; it will come back by itself. */
  | 'reconnecting'
  /** The broadcast is over; what is left may be replayed. */
  | 'ended'
  /** No stream of this name. */
  | 'missing'
  /** The broadcaster gave up on the stream, or this browser cannot play it. */
  | 'failed';

/** A stream's state as `info.json` gives it. */
export type StreamState = 'waiting' | 'live' | 'grace' | 'restarting' | 'failed' | 'ended';

/** What asking for `info.json` brought. */
export type InfoAnswer =
  | { kind: 'stream'; state: StreamState; broadcast: string | number | null }
  | { kind: 'missing' }
  | { kind: 'unreachable' };

/** What went wrong with the source. */
export type Fault =
  /** The multivariant playlist is not there (404). */
  | 'not-found'
  /** Requests fail or time out, beyond the source's own retries. */
  | 'network'
  /** The decoder or its buffers refused the media. */
  | 'media'
  /** The playlists contradict themselves, for instance numbers that went back. */
  | 'broken'
  /** This browser has no way to play the stream. */
  | 'unsupported';

/** What the shell has to do. */
export type Command =
  /** Drop the source, if any, and load the multivariant playlist afresh. */
  | 'open'
  /** Keep what is buffered, load playlists and media again from where the playhead is. */
  | 'load'
  /** Rebuild decoder and buffers from the same playlists. */
  | 'recover'
  /** Jump to the live edge if the playhead is behind it. */
  | 'seek-live'
  /** Drop the source. */
  | 'close'
  /** Do not start playing by itself: there is only a past to show. */
  | 'hold'
  /** Play what is left from its start. */
  | 'replay'
  /** Fetch `info.json` and report with `handleInfo`. */
  | 'ask-info';

/** The times that steer the machine, in milliseconds. */
export interface PlaybackTimes {
  /** No progress for this long shows as reconnecting: above a part's hold-back drained by jitter. */
  stallMs: number;
  /** First pause before loading again after a fault; doubles up to `retryMaxMs`. */
  retryMs: number;
  /** Longest pause between two tries: a restarted broadcaster is met within it. */
  retryMaxMs: number;
  /** Live by its own word, yet no progress: try the next stronger remedy after this long. */
  remedyMs: number;
  /** Media that still arrives puts a remedy off, but not longer than this: it may be arriving in vain. */
  patienceMs: number;
  /** Pause between two looks at `info.json` while not playing. */
  askMs: number;
  /** The same while playing, or when nothing is expected to happen soon. */
  askSlowMs: number;
}

/** Defaults; each is a guess that held in the fault tests unless it says otherwise. */
export const PLAYBACK_TIMES: PlaybackTimes = {
  stallMs: 2_000,
  retryMs: 300,
  retryMaxMs: 2_000,
  remedyMs: 3_000,
  patienceMs: 15_000,
  askMs: 1_000,
  askSlowMs: 5_000,
};

/** Remedies for a source that stands still although its stream is live, weakest first. */
const REMEDIES: readonly (readonly Command[])[] = [['load', 'seek-live'], ['open']];

export class Playback {
  #phase: Phase = 'loading';
  /** Last word of the broadcaster about the stream; null before the first and without one. */
  #stream: StreamState | null = null;
  #broadcast: string | number | null = null;
  /** The broadcast that `ended` was shown for: another one means that there is a new show. */
  #endedBroadcast: string | number | null = null;
  #reachable = true;
  #endList = false;
  #paused = false;
  #replaying = false;
  #open = false;
  #progressed = false;
  #lastProgressMs = 0;
  #faults = 0;
  #remedies = 0;
  #mediaFaultMs: number | null = null;
  #commands: Command[] = [];
  /** When to try again after a fault, and how. */
  #retry: { atMs: number; command: Command } | null = null;
  #askAtMs = 0;
  #remedyAtMs = 0;
  readonly #times: PlaybackTimes;
  readonly #hasInfo: boolean;
  readonly #random: () => number;

  /**
   * @param options.hasInfo whether there is an `info.json` to ask; without, a stream that is not
   *   found counts as waiting.
   * @param options.random 0 to 1, spreads retries so that viewers of a restarted broadcaster do not
   *   come back in one instant.
   */
  constructor(options: { hasInfo: boolean; random: () => number; times?: PlaybackTimes }) {
    this.#hasInfo = options.hasInfo;
    this.#random = options.random;
    this.#times = options.times ?? PLAYBACK_TIMES;
  }

  get phase(): Phase {
    return this.#phase;
  }

  /** The broadcaster's last word about the stream. */
  get streamState(): StreamState | null {
    return this.#stream;
  }

  /** Whether the broadcaster answered when last asked. */
  get reachable(): boolean {
    return this.#reachable;
  }

  /** Whether there is something to show again after the end. */
  get replayable(): boolean {
    return this.#phase === 'ended' && this.#open && this.#endList;
  }

  /** Whether the past is being played, so that no live edge is to be followed. */
  get replaying(): boolean {
    return this.#replaying;
  }

  /** The next thing to do, oldest first; null when there is none. */
  pollCommand(): Command | null {
    return this.#commands.shift() ?? null;
  }

  /** When `handleTimeout` wants to be called, on the clock of `nowMs`. */
  pollTimeout(): number {
    let at = this.#hasInfo ? this.#askAtMs : Infinity;
    if (this.#retry) at = Math.min(at, this.#retry.atMs);
    if (this.#watchesProgress()) at = Math.min(at, this.#lastProgressMs + this.#times.stallMs);
    if (this.#phase === 'reconnecting' || this.#phase === 'loading') {
      at = Math.min(at, this.#remedyAtMs);
    }
    return at;
  }

  handleStart(nowMs: number): void {
    this.#reopen(nowMs);
    this.#ask(nowMs);
  }

  /** The picture moved on. */
  handleProgress(nowMs: number): void {
    this.#lastProgressMs = nowMs;
    this.#progressed = true;
    this.#faults = 0;
    this.#remedies = 0;
    this.#retry = null;
    if (this.#phase === 'ended' && !this.#replaying) return;
    this.#phase = 'playing';
  }

  /** Media arrived: the source is at work, if slowly. */
  handleData(nowMs: number): void {
    if (nowMs - this.#lastProgressMs > this.#times.patienceMs) return;
    this.#remedyAtMs = Math.max(this.#remedyAtMs, nowMs + this.#times.remedyMs);
  }

  /** The viewer paused, or went on. */
  handlePaused(paused: boolean, nowMs: number): void {
    this.#paused = paused;
    this.#lastProgressMs = nowMs;
    this.#remedyAtMs = nowMs + this.#times.remedyMs;
  }

  handleInfo(answer: InfoAnswer, nowMs: number): void {
    this.#reachable = answer.kind !== 'unreachable';
    if (answer.kind === 'unreachable') {
      if (this.#phase === 'loading' || this.#phase === 'waiting')
        this.#enter('reconnecting', nowMs);
    } else if (answer.kind === 'missing') {
      this.#stream = null;
      if (this.#phase !== 'playing') this.#leave('missing');
    } else {
      const before = this.#stream;
      this.#stream = answer.state;
      this.#broadcast = answer.broadcast;
      this.#handleStreamState(answer.state, before, nowMs);
    }
    this.#askAtMs = nowMs + this.#askPauseMs();
  }

  /** The multivariant playlist is here. */
  handleOpened(nowMs: number): void {
    this.#remedyAtMs = nowMs + this.#times.remedyMs;
  }

  handleFault(fault: Fault, nowMs: number): void {
    if (fault === 'unsupported') {
      this.#leave('failed');
      return;
    }
    if (this.#isAtRest()) return;
    if (this.#stream === 'ended' && !this.#progressing(nowMs)) {
      this.#end();
      return;
    }
    this.#faults += 1;
    const atMs = nowMs + this.#retryPauseMs();
    const command = this.#commandAfter(fault, nowMs);
    // More faults before the next try may ask for another remedy, but never put it off.
    this.#retry = { atMs: Math.min(atMs, this.#retry?.atMs ?? atMs), command };
    if (fault === 'not-found') this.#handleNotFound(nowMs);
    if (!this.#progressing(nowMs)) this.#ask(nowMs);
  }

  /** The playlist says that no more will come. */
  handleEndList(nowMs: number): void {
    this.#endList = true;
    if (this.#phase === 'loading' || this.#phase === 'waiting') {
      this.#commands.push('hold');
      this.#end();
    } else if (this.#phase === 'reconnecting') {
      this.#lastProgressMs = nowMs;
    }
  }

  /** The playhead reached the end of what there is. */
  handleVideoEnded(): void {
    if (this.#endList || this.#stream === 'ended') this.#end();
  }

  /** The page woke up: visible again, back online, or its timers stood still for long. */
  handleWake(nowMs: number): void {
    this.#ask(nowMs);
    if (this.#phase !== 'playing' && this.#phase !== 'reconnecting') return;
    if (this.#replaying || this.#paused) return;
    this.#lastProgressMs = nowMs;
    this.#commands.push('load', 'seek-live');
  }

  /** What is open cannot show what there is now: open afresh. */
  handleOutdated(nowMs: number): void {
    if (!this.#isAtRest()) this.#reopen(nowMs);
  }

  /** The viewer asks to see the past again. */
  handleReplay(nowMs: number): void {
    if (!this.replayable) return;
    this.#replaying = true;
    this.#phase = 'playing';
    this.#lastProgressMs = nowMs;
    this.#commands.push('replay');
  }

  /** The viewer asks to try again at once. */
  handleTryAgain(nowMs: number): void {
    this.#stream = null;
    this.#phase = 'loading';
    this.#reopen(nowMs);
    this.#ask(nowMs);
  }

  handleTimeout(nowMs: number): void {
    if (this.#hasInfo && nowMs >= this.#askAtMs) this.#ask(nowMs);
    if (this.#retry && nowMs >= this.#retry.atMs) {
      const { command } = this.#retry;
      this.#retry = null;
      if (command === 'open') this.#reopen(nowMs);
      else this.#commands.push(command);
      this.#remedyAtMs = nowMs + this.#times.remedyMs;
    }
    if (this.#watchesProgress() && nowMs >= this.#lastProgressMs + this.#times.stallMs) {
      if (this.#endList) {
        this.#end();
      } else {
        this.#enter('reconnecting', nowMs);
        this.#ask(nowMs);
      }
    }
    if (
      (this.#phase === 'reconnecting' || this.#phase === 'loading') &&
      nowMs >= this.#remedyAtMs
    ) {
      this.#handleStandstill(nowMs);
    }
  }

  #handleStreamState(state: StreamState, before: StreamState | null, nowMs: number): void {
    switch (state) {
      case 'live':
      case 'grace':
      case 'restarting':
        if (this.#phase === 'ended') {
          const isNew = this.#broadcast !== this.#endedBroadcast || before === 'ended';
          if (!isNew || this.#replaying || state !== 'live') return;
          this.#phase = 'loading';
          this.#reopen(nowMs);
        } else if (['waiting', 'missing', 'failed'].includes(this.#phase)) {
          this.#phase = 'loading';
          this.#reopen(nowMs);
        } else if (state === 'live' && before !== 'live' && this.#phase === 'reconnecting') {
          // Give the source the time to notice by itself before anything is done to it.
          this.#remedies = 0;
          this.#remedyAtMs = nowMs + this.#times.remedyMs;
        }
        return;
      case 'waiting':
      case 'failed':
        if (this.#phase !== 'playing' && this.#phase !== 'ended') this.#leave(state);
        return;
      case 'ended':
        // An open source learns of the end from its playlist, and can then be replayed.
        if (this.#phase === 'waiting' || this.#phase === 'missing' || this.#phase === 'failed') {
          this.#phase = 'loading';
          this.#reopen(nowMs);
        }
    }
  }

  #handleNotFound(nowMs: number): void {
    if (this.#progressing(nowMs)) return;
    if (!this.#hasInfo) this.#phase = 'waiting';
    else if (this.#stream === 'ended') this.#end();
  }

  /** Nothing moves though nothing failed: act only when the broadcaster says that it should. */
  #handleStandstill(nowMs: number): void {
    this.#remedyAtMs = nowMs + this.#times.remedyMs;
    const isLive = !this.#hasInfo || (this.#reachable && this.#stream === 'live');
    if (this.#paused || this.#retry || !isLive) return;
    for (const remedy of REMEDIES[Math.min(this.#remedies, REMEDIES.length - 1)] ?? []) {
      if (remedy === 'open') this.#reopen(nowMs);
      else this.#commands.push(remedy);
    }
    this.#remedies += 1;
    // Opening afresh again and again would keep a slow connection from ever getting enough.
    const longer = 2 ** Math.min(Math.max(this.#remedies - REMEDIES.length, 0), 3);
    this.#remedyAtMs = nowMs + this.#times.remedyMs * longer;
  }

  #commandAfter(fault: Fault, nowMs: number): Command {
    if (fault === 'media') {
      // A second media fault soon after the first: rebuilding the buffers did not help.
      const again = this.#mediaFaultMs !== null && nowMs - this.#mediaFaultMs < 10_000;
      this.#mediaFaultMs = nowMs;
      return again ? 'open' : 'recover';
    }
    if (fault === 'network' && this.#progressed && this.#open && this.#faults % 4 !== 0) {
      return 'load';
    }
    return 'open';
  }

  #reopen(nowMs: number): void {
    this.#commands.push('open');
    this.#open = true;
    this.#endList = false;
    this.#replaying = false;
    this.#retry = null;
    this.#lastProgressMs = nowMs;
    this.#remedyAtMs = nowMs + this.#times.remedyMs;
  }

  #enter(phase: Phase, nowMs: number): void {
    if (this.#phase === phase) return;
    this.#phase = phase;
    this.#remedies = 0;
    this.#remedyAtMs = nowMs + this.#times.remedyMs;
  }

  #leave(phase: Phase): void {
    this.#phase = phase;
    this.#retry = null;
    this.#faults = 0;
    if (this.#open) this.#commands.push('close');
    this.#open = false;
    this.#progressed = false;
  }

  #end(): void {
    this.#phase = 'ended';
    this.#replaying = false;
    this.#retry = null;
    this.#faults = 0;
    this.#endedBroadcast = this.#broadcast;
  }

  #ask(nowMs: number): void {
    if (!this.#hasInfo) return;
    this.#commands.push('ask-info');
    // The answer sets the next time; this one stands in for an answer that never comes.
    this.#askAtMs = nowMs + this.#times.askSlowMs;
  }

  #askPauseMs(): number {
    const slow =
      this.#phase === 'playing' ||
      this.#phase === 'ended' ||
      this.#phase === 'failed' ||
      this.#phase === 'missing';
    return (slow ? this.#times.askSlowMs : this.#times.askMs) * (1 + this.#random() / 4);
  }

  #retryPauseMs(): number {
    const doubled = this.#times.retryMs * 2 ** Math.min(this.#faults - 1, 8);
    return Math.min(doubled, this.#times.retryMaxMs) * (1 + this.#random() / 4);
  }

  #watchesProgress(): boolean {
    return this.#phase === 'playing' && !this.#paused;
  }

  #progressing(nowMs: number): boolean {
    return this.#phase === 'playing' && nowMs - this.#lastProgressMs < this.#times.stallMs;
  }

  /** Nothing is open, or the past is over: faults of a source that is gone say nothing. */
  #isAtRest(): boolean {
    return ['ended', 'missing', 'failed'].includes(this.#phase) || !this.#open;
  }
}
