import { describe, expect, it } from 'vitest';
import { ServerClock } from './clock';

/** What a server whose clock is `offMs` ahead answers at our time `atMs`. */
function answer(clock: ServerClock, atMs: number, offMs: number, travelMs = 20): void {
  const date = Math.floor((atMs + travelMs / 2 + offMs) / 1000) * 1000;
  clock.handleAnswer(date, atMs, atMs + travelMs);
}

describe('ServerClock', () => {
  it('trusts this computer while the clocks may agree', () => {
    const clock = new ServerClock();
    for (let i = 0; i < 20; i += 1) answer(clock, 1_000_000 + i * 1_370, 0);
    expect(clock.offsetMs).toBe(0);
  });

  it('finds a clock that is far off to a fraction of a second', () => {
    const clock = new ServerClock();
    for (let i = 0; i < 20; i += 1) answer(clock, 1_000_000 + i * 1_370, 90_250);
    expect(Math.abs(clock.offsetMs - 90_250)).toBeLessThan(200);
  });

  it('starts over when a clock was set', () => {
    const clock = new ServerClock();
    answer(clock, 1_000_000, 0);
    answer(clock, 1_002_000, 3_600_000);
    expect(Math.abs(clock.offsetMs - 3_600_000)).toBeLessThan(1_100);
  });

  it('ignores answers without a date', () => {
    const clock = new ServerClock();
    clock.handleAnswer(NaN, 0, 10);
    expect(clock.offsetMs).toBe(0);
  });
});
