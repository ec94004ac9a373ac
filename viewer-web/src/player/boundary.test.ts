import { describe, expect, it } from 'vitest';
import { Boundary } from './boundary';

const FOUR_PARTS = [0, 1, 2, 3];
const parts = [
  ...FOUR_PARTS.map((index) => ({ sn: 7, index })),
  ...FOUR_PARTS.map((index) => ({ sn: 8, index })),
  { sn: 9, index: 0 },
];

function after(sn: number, part: number | null): Boundary {
  const boundary = new Boundary();
  boundary.handleLoaded(sn, part);
  return boundary;
}

describe('Boundary', () => {
  it('is before anything was loaded, and after a restart', () => {
    const boundary = new Boundary();
    expect(boundary.isAt({ endSn: 8, parts })).toBe(true);
    boundary.handleLoaded(8, 1);
    boundary.handleReset();
    expect(boundary.isAt({ endSn: 8, parts })).toBe(true);
  });

  it('is after the last part of a complete segment, and after a whole one', () => {
    expect(after(8, 3).isAt({ endSn: 8, parts })).toBe(true);
    expect(after(7, null).isAt({ endSn: 8, parts })).toBe(true);
  });

  it('is not yet there while the next segment is not listed', () => {
    const soFar = parts.filter(({ sn }) => sn < 9);
    expect(after(8, 3).isAt({ endSn: 8, parts: soFar })).toBe(false);
    expect(after(8, 3).nextSn).toBe(9);
    expect(after(8, null).nextSn).toBeNull();
  });

  it('is not inside a segment', () => {
    expect(after(8, 2).isAt({ endSn: 8, parts })).toBe(false);
  });

  it('is not after the newest part of a segment that still grows', () => {
    expect(after(9, 0).isAt({ endSn: 8, parts })).toBe(false);
  });

  it('is after a segment whose parts are no longer listed', () => {
    expect(after(3, 1).isAt({ endSn: 8, parts })).toBe(true);
  });

  it('has all that is listed once the newest part of its segment is loaded', () => {
    expect(after(9, 0).hasAllListed(parts)).toBe(true);
    expect(after(8, 2).hasAllListed(parts)).toBe(false);
  });
});
