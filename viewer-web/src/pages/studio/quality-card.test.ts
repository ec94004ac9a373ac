import { describe, expect, it } from 'vitest';
import { parseStream, type Rendition } from './api';
import { qualityState } from './quality-card';

function rendition(more: object): Rendition {
  const [first] = parseStream({ renditions: [{ id: '720p', state: 'live', ...more }] }).renditions;
  if (!first) throw new Error('it parses');
  return first;
}

describe('qualityState', () => {
  it('says why a quality is paused', () => {
    const paused = rendition({ state: 'suspended', reason: 'encoding at 0.8 × real time' });
    expect(qualityState(paused)).toEqual({
      label: 'Paused',
      tone: 'warn',
      text: '720p paused: encoding at 0.8 × real time',
    });
  });

  it('tells what the operator switched off and what sleeps from what lacks something', () => {
    const off = rendition({ state: 'suspended', enabled: false });
    const asleep = { state: 'suspended', encode: 'on_demand', reason: 'nobody watches it' };
    expect(qualityState(off).label).toBe('Off');
    expect(qualityState(rendition(asleep)).label).toBe('Asleep');
    expect(qualityState(rendition({ ...asleep, reason: 'no memory' })).label).toBe('Paused');
  });

  it('says what is spared on a quality', () => {
    expect(qualityState(rendition({ lowered: 'effort' })).text).toContain('less effort');
    expect(qualityState(rendition({ lowered: 'frame_rate' })).text).toContain('half');
    expect(qualityState(rendition({}))).toEqual({ label: 'Live', tone: 'good', text: '' });
    expect(qualityState(rendition({ state: 'failed', reason: 'x' })).tone).toBe('bad');
  });
});
