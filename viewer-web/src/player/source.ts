/**
 * Where media comes from, behind one seam: hls.js where there are Media Source Extensions, the
 * browser's own player elsewhere.
 */
import type { Fault } from './playback';

/** A quality that a viewer can pick. */
export interface Quality {
  /** The rendition's id, such as `720p`. */
  id: string;
  width: number;
  height: number;
  fps: number;
  /** Bits per second, its share of audio included; 0 when unknown. */
  bitrate: number;
  /** The broadcaster does not make it for now; it may come back at any time. */
  paused: boolean;
}

/** What a source tells its owner. */
export interface SourceEvents {
  /** The multivariant playlist was read. */
  onOpened(): void;
  /** Something failed beyond the source's own retries. */
  onFault(fault: Fault, detail: string): void;
  /** The playlist says that no more will come. */
  onEndList(): void;
  /** The rendition on screen changed. */
  onQuality(id: string): void;
  /** Some quality was paused, or is back. */
  onOffer(): void;
  /** The picked quality appeared after the playlist was read: opening afresh would bring it. */
  onOutdated(): void;
  /** No quality could be had, and one is back: only opening afresh shows it. */
  onBack(): void;
  /** Media or init bytes came over HTTP; `ttfbMs` only where the answer did not have to wait. */
  onLoaded(bytes: number, ttfbMs: number | null): void;
  /** A request for media failed. */
  onLoadFailed(): void;
  /** Media between two positions is on its way into the buffer. */
  onStretch(startS: number, endS: number, bytes: number): void;
  /** The session that the newest segment belongs to, when its address tells. */
  onSession(session: number): void;
}

/** One way of getting media into a video element. */
export interface Source {
  /** What there is to choose from, best first. Empty when the source does not tell. */
  readonly qualities: readonly Quality[];
  /**
   * Pins a quality; null leaves the choice to the player. While it cannot be had, the next lower one
   * is shown; ids that mean nothing count as null.
   */
  setQuality(id: string | null): void;
  /** Tells which renditions `info.json` says are made now. */
  setMade(ids: readonly string[]): void;
  /** Loads again from where the playhead is. */
  load(): void;
  /** Rebuilds decoder and buffers. */
  recover(): void;
  /** Where a viewer at the live edge should be, in media time. */
  readonly livePositionS: number | null;
  /** From the playhead to the live edge, and where that should be. */
  readonly distance: { latencyS: number; targetS: number } | null;
  /** Wall clock of the picture on screen, by PROGRAM-DATE-TIME. */
  readonly playingDateMs: number | null;
  /** Estimated download rate in bits per second. */
  readonly bandwidthBps: number;
  destroy(): void;
}
