/** What the player as a library offers: the words that pages and embedding sites use. */
import type { StreamInfo } from './info';
import type { Fault, Phase, StreamState } from './playback';
import type { Quality } from './source';
import type { History, ViewerStats } from './stats';

export interface ViewerOptions {
  /** Address of the multivariant playlist. */
  src: string;
  /**
   * Address of `info.json`. By default beside a playlist called `master.m3u8`; null for a stream
   * that has none.
   */
  info?: string | null;
  /** Picture to show until the first frame. */
  poster?: string;
  /** Pins a quality by its rendition id. */
  quality?: string | null;
  /** Plays without being asked, muted where the browser demands that. Default true. */
  autoplay?: boolean;
  /** When waiting began, on the clock of `performance.now()`; 0 is the navigation. Default: now. */
  startedAtMs?: number;
}

/** What a page needs to draw itself. */
export interface ViewerState {
  phase: Phase;
  /** The broadcaster's word about the stream; null before the first. */
  stream: StreamState | null;
  /** Whether the broadcaster answers. */
  reachable: boolean;
  /** Whether the playhead follows the live edge. */
  atLive: boolean;
  /** Whether the picture stands still for want of data. */
  stalled: boolean;
  /** Whether `replay()` has something to show. */
  replayable: boolean;
  /** Whether the browser only let it start without sound. */
  silenced: boolean;
}

export interface ViewerEvents {
  /** The picture moves, at the first time and after every interruption. */
  live: ViewerState;
  /** The stream is there, its publisher is not. */
  waiting: ViewerState;
  /** The broadcast is over. */
  ended: ViewerState;
  /** Something failed. Unless `fatal`, the viewer goes on by itself. */
  error: { fault: Fault; detail: string; fatal: boolean };
  /** Once a second. */
  stats: ViewerStats;
  /** Any change of the state. */
  state: ViewerState;
  /** What there is to choose from, or what is shown, changed. */
  qualities: readonly Quality[];
  /** The stream's description was read. */
  info: StreamInfo;
}

export interface Viewer {
  readonly video: HTMLVideoElement;
  readonly state: ViewerState;
  /** The stream's description; null before the first answer. */
  readonly info: StreamInfo | null;
  /** What there is to choose from, best first. */
  readonly qualities: readonly Quality[];
  /** The pinned quality; null for automatic. */
  readonly pinnedQuality: string | null;
  /** The last two minutes, for charts. */
  readonly history: History;
  stats(): ViewerStats;
  on<Name extends keyof ViewerEvents>(
    name: Name,
    listener: (value: ViewerEvents[Name]) => void,
  ): () => void;
  /** Pins a quality by its rendition id; null leaves the choice to the player. */
  setQuality(id: string | null): void;
  /** Starts or goes on, muted where the browser demands that. */
  play(): void;
  pause(): void;
  /** Jumps within what can be played, in seconds from here. */
  seekBy(seconds: number): void;
  /** Jumps to a media time. */
  seekTo(positionS: number): void;
  goLive(): void;
  /** After the end: plays what is left. */
  replay(): void;
  /** Tries again at once instead of at the next turn. */
  tryAgain(): void;
  destroy(): void;
}
