import { describe, expect, it } from 'vitest';
import { parseStreams } from './streams';

describe('parseStreams', () => {
  it('lists what is on air', () => {
    const streams = parseStreams({
      streams: [
        { name: 'demo', title: 'Demo', state: 'live', started_at: null, viewers: 3 },
        { name: 'gone', title: '', state: 'ended', started_at: null, viewers: 0 },
        { title: 'no name', state: 'live' },
        null,
      ],
    });
    expect(streams.map(({ name, viewers }) => [name, viewers])).toEqual([['demo', 3]]);
  });

  it('takes anything else for an empty list', () => {
    for (const value of [null, [], {}, { streams: 'many' }])
      expect(parseStreams(value)).toEqual([]);
  });
});
