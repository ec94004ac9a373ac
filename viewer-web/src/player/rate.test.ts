import { describe, expect, it } from 'vitest';
import { playbackRate, RATE_MAX, RATE_MIN, shouldJump } from './rate';

const calm = { targetS: 1.65, bufferS: 1.2, refilling: false };

describe('playbackRate', () => {
  it('leaves small distances alone', () => {
    expect(playbackRate({ ...calm, latencyS: 1.7 })).toBe(1);
    expect(playbackRate({ ...calm, latencyS: 1.58 })).toBe(1);
  });

  it('catches up without going over the limit', () => {
    expect(playbackRate({ ...calm, latencyS: 1.85 })).toBe(1.02);
    expect(playbackRate({ ...calm, latencyS: 9 })).toBe(RATE_MAX);
  });

  it('slows down to win a buffer back', () => {
    expect(playbackRate({ ...calm, latencyS: 0.4 })).toBe(RATE_MIN);
  });

  it('does not run dry faster', () => {
    expect(playbackRate({ ...calm, latencyS: 3, bufferS: 0.2 })).toBe(1);
  });

  it('holds the picture after an interruption until there is enough to go on', () => {
    expect(playbackRate({ ...calm, latencyS: 0.5, bufferS: 0.5, refilling: true })).toBe(0);
    expect(playbackRate({ ...calm, latencyS: 1.6, bufferS: 1.1, refilling: true })).toBe(1);
  });

  it('settles at the target from either side', () => {
    for (const start of [0.6, 4.5]) {
      let latencyS = start;
      for (let second = 0; second < 120; second += 1) {
        latencyS -= playbackRate({ ...calm, latencyS }) - 1;
      }
      expect(Math.abs(latencyS - calm.targetS)).toBeLessThan(0.2);
    }
  });

  it('plays at normal speed when the distance is not known', () => {
    expect(playbackRate({ ...calm, latencyS: NaN })).toBe(1);
  });
});

describe('shouldJump', () => {
  const playing = { playheadS: 10, bufferS: 2, starting: false };

  it('jumps only over what catching up would take minutes for', () => {
    expect(shouldJump({ ...playing, livePositionS: 12 })).toBe(false);
    expect(shouldJump({ ...playing, livePositionS: 14 })).toBe(true);
    expect(shouldJump({ ...playing, livePositionS: 6 })).toBe(false);
  });

  it('jumps over what starting took, if enough is left to play', () => {
    const starting = { ...playing, starting: true };
    expect(shouldJump({ ...starting, livePositionS: 10.7 })).toBe(true);
    expect(shouldJump({ ...starting, livePositionS: 10.2 })).toBe(false);
    expect(shouldJump({ ...starting, livePositionS: 10.7, bufferS: 1.2 })).toBe(false);
  });
});
