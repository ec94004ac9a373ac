import { describe, expect, it } from 'vitest';
import { History } from './stats';

describe('History', () => {
  it('keeps the newest samples only', () => {
    const history = new History(3);
    for (let i = 0; i < 5; i += 1) {
      history.push({ atMs: i, latencyS: i, bufferS: 1, quality: '720p' });
    }
    expect(history.samples.map(({ atMs }) => atMs)).toEqual([2, 3, 4]);
  });

  it('joins samples of one quality into runs that touch', () => {
    const history = new History();
    const shown = ['720p', '720p', '480p', '720p'];
    shown.forEach((quality, i) =>
      history.push({ atMs: i * 500, latencyS: 2, bufferS: 1, quality }),
    );
    expect(history.qualityRuns()).toEqual([
      { quality: '720p', fromMs: 0, toMs: 1_000 },
      { quality: '480p', fromMs: 1_000, toMs: 1_500 },
      { quality: '720p', fromMs: 1_500, toMs: 1_500 },
    ]);
  });
});
