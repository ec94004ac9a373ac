import { describe, expect, it } from 'vitest';
import { axisMax, linePath } from './charts';

describe('charts', () => {
  it('draw the newest sample at the right edge', () => {
    const path = linePath(
      [
        { atMs: 60_000, value: 0 },
        { atMs: 120_000, value: 2 },
      ],
      120_000,
      2,
    );
    expect(path).toBe('M150.0 47.0L300.0 1.0');
  });

  it('leave a gap where nothing was measured', () => {
    const points = [
      { atMs: 0, value: 1 },
      { atMs: 60_000, value: null },
      { atMs: 120_000, value: 1 },
    ];
    expect(linePath(points, 120_000, 2).match(/M/g)).toHaveLength(2);
  });

  it('choose an axis that holds every value', () => {
    expect(axisMax([], 2)).toBe(2);
    expect(axisMax([{ atMs: 0, value: 7 }], 2)).toBe(10);
  });
});
