/**
 * How fast to play so that the distance to the live edge settles at its target: pure arithmetic.
 */

/** Fastest catch-up; below what viewers notice in speech. */
export const RATE_MAX = 1.04;
/** Slowest, to win back a buffer that a stall used up. */
export const RATE_MIN = 0.97;
/** Distances this small are left alone, in seconds. */
const DEADBAND_S = 0.1;
/** Rate per second of distance: the last 0.3 s are caught up in about 20 s, without overshoot. */
const GAIN_PER_S = 0.12;
/** With less than this buffered, going faster would only run dry sooner, in seconds. */
const BUFFER_FLOOR_S = 0.6;

/** What the rate depends on, all in seconds of media. */
export interface RateInput {
  /** From the playhead to the live edge. */
  latencyS: number;
  /** Where it should be. */
  targetS: number;
  /** Playable ahead of the playhead. */
  bufferS: number;
  /** After an interruption: stand still until there is enough to go on without another one. */
  refilling: boolean;
}

/** Refilled is what holds this share of the target. */
const REFILL_SHARE = 0.6;

/** Whether an interrupted picture may move again. */
export function isRefilled({ targetS, bufferS }: Pick<RateInput, 'targetS' | 'bufferS'>): boolean {
  return bufferS >= targetS * REFILL_SHARE;
}

/** The playback rate, in steps of 1 % so that it changes seldom; 0 holds the picture. */
export function playbackRate({ latencyS, targetS, bufferS, refilling }: RateInput): number {
  if (refilling && !isRefilled({ targetS, bufferS })) return 0;
  const distance = latencyS - targetS;
  if (!Number.isFinite(distance) || Math.abs(distance) <= DEADBAND_S) return 1;
  if (distance > 0 && bufferS < BUFFER_FLOOR_S) return 1;
  const wanted = 1 + distance * GAIN_PER_S;
  return Math.round(Math.min(RATE_MAX, Math.max(RATE_MIN, wanted)) * 100) / 100;
}

/** Further behind than this, a jump serves better than minutes of catching up, in seconds. */
const JUMP_S = 3;
/** In the first moments nobody follows the picture yet: what starting took is jumped over. */
const JUMP_STARTING_S = 0.4;
/** A jump at the start must leave this much to play, in seconds. */
const JUMP_LEAVES_S = 1;

/** What a jump depends on, in seconds of media. */
export interface JumpInput {
  playheadS: number;
  /** Where the playhead should be. */
  livePositionS: number;
  /** Playable ahead of the playhead. */
  bufferS: number;
  /** Whether the first frame was shown just now. */
  starting: boolean;
}

/** Whether a viewer who follows the live edge should be taken to it by a jump. */
export function shouldJump({ playheadS, livePositionS, bufferS, starting }: JumpInput): boolean {
  const behind = livePositionS - playheadS;
  if (behind > JUMP_S) return true;
  return starting && behind > JUMP_STARTING_S && bufferS - behind >= JUMP_LEAVES_S;
}
