/** The statistics of one viewer, as `window.shoal.stats()` and the `stats` event give them. */

/** How parts reach this viewer. */
export type P2pState = 'on' | 'off' | 'unsupported';

/** A snapshot. Field names are an interface: other programs read them. */
export interface ViewerStats {
  /** Camera to screen by the stream's own wall clock, in seconds; null before the first frame. */
  latencyS: number | null;
  /** Playable ahead of the playhead, in seconds. */
  bufferS: number;
  /** From navigation (or `createViewer`) to the first frame on screen; null before it. */
  firstFrameMs: number | null;
  /** Times the picture stood still after it had started. */
  stalls: number;
  /** How long in all, in seconds. */
  stalledS: number;
  /** The rendition on screen, such as `720p`; null before the first frame. */
  quality: string | null;
  /** Changes of the rendition on screen. */
  qualitySwitches: number;
  /** Estimated download rate. */
  bandwidthBps: number;
  /** Share of media requests that failed, 0 to 1. */
  lossRatio: number;
  /** Mean variation of the round trip. */
  jitterMs: number;
  /** Time to the first byte of media that was ready. */
  rttMs: number;
  /** Media and init bytes loaded over HTTP. */
  bytesHttp: number;
  /** Bytes from the broadcaster's root peer. */
  bytesRoot: number;
  /** Bytes that went through a relay. */
  bytesTurn: number;
  /** Verified bytes from other viewers. */
  bytesPeer: number;
  /** Bytes of what was shown. */
  bytesPlayed: number;
  /** Bytes sent to other viewers. */
  bytesUploaded: number;
  /** 1 − operator's bytes / bytes played, from 10 s after joining. */
  offload: number;
  /** The same from the start. */
  offloadTotal: number;
  /** Connected viewers. */
  peers: number;
  /** Those that feed this one. */
  parents: number;
  /** Those that this one feeds. */
  children: number;
  /** Pieces that did not match their hash. */
  rejectedPieces: number;
  /** Whether parts are shared with other viewers. */
  p2p: P2pState;
}

/** What no peer has touched. */
export const NO_PEERS = {
  bytesRoot: 0,
  bytesTurn: 0,
  bytesPeer: 0,
  bytesUploaded: 0,
  offload: 0,
  offloadTotal: 0,
  peers: 0,
  parents: 0,
  children: 0,
  rejectedPieces: 0,
} as const satisfies Partial<ViewerStats>;

/** One moment in the charts. */
export interface Sample {
  atMs: number;
  latencyS: number | null;
  bufferS: number;
  quality: string | null;
}

/** The last stretch of time as samples, bounded. */
export class History {
  #samples: Sample[] = [];

  /** @param samplesMax two minutes at two a second by default */
  constructor(private readonly samplesMax = 240) {}

  push(sample: Sample): void {
    this.#samples.push(sample);
    if (this.#samples.length > this.samplesMax) this.#samples.shift();
  }

  get samples(): readonly Sample[] {
    return this.#samples;
  }

  /** Runs of one quality, for the timeline. */
  qualityRuns(): { quality: string | null; fromMs: number; toMs: number }[] {
    const runs: { quality: string | null; fromMs: number; toMs: number }[] = [];
    for (const { atMs, quality } of this.#samples) {
      const last = runs.at(-1);
      if (last) last.toMs = atMs;
      if (last?.quality !== quality) runs.push({ quality, fromMs: atMs, toMs: atMs });
    }
    return runs;
  }
}
