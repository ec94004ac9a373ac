import { describe, expect, it } from 'vitest';
import type { Quality } from '../player/source';
import type { ViewerState } from '../player/api';
import {
  agoLabel,
  bitrateLabel,
  bytesLabel,
  messageFor,
  qualityLabel,
  qualityNotice,
} from './words';

const playing: ViewerState = {
  phase: 'playing',
  stream: 'live',
  reachable: true,
  atLive: true,
  stalled: false,
  replayable: false,
  silenced: false,
};

describe('messageFor', () => {
  it('says nothing while the picture moves', () => {
    expect(messageFor(playing, 'demo')).toBeNull();
  });

  it('tells the three kinds of interruption apart', () => {
    const titles = [
      messageFor({ ...playing, phase: 'reconnecting' }, 'demo'),
      messageFor({ ...playing, phase: 'reconnecting', stream: 'grace' }, 'demo'),
      messageFor({ ...playing, phase: 'reconnecting', reachable: false }, 'demo'),
    ].map((message) => message?.detail);
    expect(new Set(titles).size).toBe(3);
  });

  it('says that the broadcaster restarts, also while it cannot be reached', () => {
    for (const reachable of [true, false]) {
      const state = { ...playing, phase: 'reconnecting' as const, stream: 'restarting' as const };
      const message = messageFor({ ...state, reachable }, 'demo');
      expect(message?.title).toBe('The broadcaster is restarting');
    }
  });

  it('names the stream that does not exist and shows a way out', () => {
    const message = messageFor({ ...playing, phase: 'missing', stream: null }, 'dmeo');
    expect(message?.title).toBe('No such stream');
    expect(message?.detail).toContain('dmeo');
    expect(message?.action).toBe('all-streams');
  });

  it('offers a replay only when there is something left', () => {
    const ended = { ...playing, phase: 'ended' as const };
    expect(messageFor({ ...ended, replayable: true }, 'demo')?.action).toBe('replay');
    expect(messageFor(ended, 'demo')?.action).toBe('all-streams');
  });
});

describe('qualityNotice', () => {
  const quality = (id: string, paused: boolean): Quality => ({
    ...{ id, width: 0, height: parseInt(id), fps: 30, bitrate: 0 },
    paused,
  });
  const all = [quality('720p', false), quality('480p', false)];
  const one = [quality('720p', true), quality('480p', false)];

  it('says what was paused and what is back, once', () => {
    expect(qualityNotice(all, one, null)?.text).toBe('720p is paused.');
    expect(qualityNotice(one, one, null)).toBeNull();
    expect(qualityNotice(one, all, null)?.text).toBe('720p is back.');
    const none = all.map(({ id }) => quality(id, true));
    expect(qualityNotice(all, none, null)?.text).toBe('720p, 480p are paused.');
  });

  it('tells the one who picked it that it comes back by itself', () => {
    const notice = qualityNotice(all, one, '720p');
    expect(notice?.concerns).toBe('picked');
    expect(notice?.text).toContain('comes back');
    expect(qualityNotice(all, one, '480p')?.concerns).toBe('others');
    expect(qualityNotice(one, all, '720p')?.concerns).toBe('picked');
  });

  it('says on arrival only what was asked for and is not there', () => {
    expect(qualityNotice([], one, null)).toBeNull();
    expect(qualityNotice([], one, '720p')?.concerns).toBe('picked');
  });
});

describe('labels', () => {
  it('write numbers for people', () => {
    expect(bitrateLabel(2_628_000)).toBe('2.6 Mbit/s');
    expect(bitrateLabel(128_000)).toBe('128 kbit/s');
    expect(bitrateLabel(0)).toBe('');
    expect(bytesLabel(1_234_567)).toBe('1.2 MB');
    expect(qualityLabel({ id: 'source', height: 1080, fps: 30 })).toBe('Source · 1080p');
    expect(qualityLabel({ id: '720p60', height: 720, fps: 60 })).toBe('720p60');
  });

  it('say how long ago in the unit that matters', () => {
    const now = 100 * 24 * 3_600_000;
    expect(agoLabel(now - 20_000, now)).toBe('just now');
    expect(agoLabel(now - 5 * 60_000, now)).toBe('5 min ago');
    expect(agoLabel(now - 125 * 60_000, now)).toBe('2 h 5 min ago');
    expect(agoLabel(now - 50 * 3_600_000, now)).toBe('2 days ago');
  });
});
