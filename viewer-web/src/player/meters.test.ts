import { describe, expect, it } from 'vitest';
import { LossMeter, PlayedMeter, RoundTripMeter, StallMeter } from './meters';

describe('StallMeter', () => {
  it('counts one stall however often it is reported', () => {
    const meter = new StallMeter();
    meter.handleStill(1_000);
    meter.handleStill(1_200);
    meter.handleMoving(2_500);
    meter.handleMoving(2_600);
    expect(meter.stalls).toBe(1);
    expect(meter.stalledS(9_000)).toBe(1.5);
  });

  it('counts the current stall up to now', () => {
    const meter = new StallMeter();
    meter.handleStill(0);
    expect(meter.stalledS(700)).toBe(0.7);
  });
});

describe('PlayedMeter', () => {
  it('counts bytes in the measure in which they were shown', () => {
    const meter = new PlayedMeter();
    meter.handleLoaded(0, 2, 1_000);
    meter.handleLoaded(0, 2, 100);
    meter.handlePlayed(0, 1);
    expect(meter.bytes).toBe(550);
    meter.handlePlayed(1, 2.5);
    expect(meter.bytes).toBe(1_100);
  });

  it('does not count what was jumped over', () => {
    const meter = new PlayedMeter();
    meter.handleLoaded(0, 2, 1_000);
    meter.handleLoaded(2, 4, 1_000);
    meter.handlePlayed(2, 4);
    expect(meter.bytes).toBe(1_000);
  });

  it('never counts more than was loaded', () => {
    const meter = new PlayedMeter();
    meter.handleLoaded(0, 2, 1_000);
    meter.handlePlayed(0, 10);
    meter.handlePlayed(0, 10);
    expect(meter.bytes).toBe(1_000);
  });
});

describe('RoundTripMeter', () => {
  it('takes the first sample as it is and smooths the others', () => {
    const meter = new RoundTripMeter();
    meter.handleSample(80);
    expect(meter.rttMs).toBe(80);
    meter.handleSample(160);
    expect(meter.rttMs).toBe(90);
    expect(meter.jitterMs).toBe(5);
  });

  it('ignores what is not a time', () => {
    const meter = new RoundTripMeter();
    meter.handleSample(-1);
    meter.handleSample(NaN);
    expect(meter.rttMs).toBe(0);
  });
});

describe('LossMeter', () => {
  it('is the share that failed', () => {
    const meter = new LossMeter();
    expect(meter.ratio).toBe(0);
    meter.handleDone();
    meter.handleDone();
    meter.handleDone();
    meter.handleFailed();
    expect(meter.ratio).toBe(0.25);
  });
});
