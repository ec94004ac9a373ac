import { describe, expect, it } from 'vitest';
import { parseResources } from './resources';

describe('parseResources', () => {
  it('reads machine, workers and changes, the newest first', () => {
    const change = { stream: 'show', rendition: '720p', lowered: 'no', by_load: true };
    const resources = parseResources({
      limits: { degradation: false, on_demand: true },
      host: { cores: 2, cpu_busy: 1.5, memory_bytes: 5, memory_limit_bytes: 10 },
      streams: [
        { name: 'show', speed: 0.8, worker: { cpu_percent: 150, memory_bytes: 4 } },
        { name: 'idle', worker: null },
      ],
      changes: {
        recent: [
          { ...change, at: 'a', on: false, reason: 'encoding at 0.8 × real time' },
          { ...change, at: 'b', on: true, lowered: 'effort', reason: 'too slow' },
          { ...change, at: 'c', on: true, reason: 'too slow' },
        ],
      },
    });
    expect([resources.degradation, resources.onDemand]).toEqual([false, true]);
    expect(resources.host?.cpuBusy).toBe(1.5);
    expect(resources.workers.map(({ stream }) => stream)).toEqual(['show']);
    expect(resources.changes.map(({ text }) => text)).toEqual([
      'show 720p made again, was: too slow',
      'show 720p made with less effort: too slow',
      'show 720p paused: encoding at 0.8 × real time',
    ]);
  });

  it('makes nothing up', () => {
    expect(parseResources(null)).toMatchObject({ host: null, workers: [], changes: [] });
  });
});
