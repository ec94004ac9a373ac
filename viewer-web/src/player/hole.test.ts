import { describe, expect, it } from 'vitest';
import { Hole } from './hole';

describe('Hole', () => {
  const before: [number, number] = [0, 20];
  const behind: [number, number] = [22, 22.5];

  it('is gone over where the playhead would be by now had nothing been missing', () => {
    const stuck = { playheadS: 19.98, buffered: [before, behind] };
    expect(new Hole().poll({ ...stuck, livePositionS: 21.9 })).toBe(null);
    expect(new Hole().poll({ ...stuck, livePositionS: 22.1 })).toBe(22);
  });

  it('is gone over only when what is before it has been played', () => {
    const hole = new Hole();
    const early = { playheadS: 19.6, buffered: [before, behind], livePositionS: 23 };
    expect(hole.poll(early)).toBe(null);
    expect(hole.aheadS).toBe(null);
  });

  it('is gone over nowhere without media behind it', () => {
    expect(new Hole().poll({ playheadS: 20, buffered: [before], livePositionS: 23 })).toBe(null);
  });

  it('that the playhead passed with the sound ends with a jump to where it is', () => {
    const hole = new Hole();
    const due = (playheadS: number) => ({ playheadS, livePositionS: playheadS - 0.2 });
    expect(hole.poll({ ...due(19), buffered: [before] })).toBe(null);
    expect(hole.poll({ ...due(21), buffered: [before, behind] })).toBe(null);
    expect(hole.aheadS).toBe(1);
    expect(hole.poll({ ...due(22.01), buffered: [before, behind] })).toBe(22.01);
    hole.handleSeek();
    expect(hole.poll({ ...due(22.03), buffered: [before, behind] })).toBe(null);
  });

  it('counts as passed too where the media behind it came late, and for who lags behind', () => {
    const hole = new Hole();
    hole.poll({ playheadS: 19, buffered: [before], livePositionS: null });
    hole.poll({ playheadS: 22.2, buffered: [before], livePositionS: null });
    expect(hole.poll({ playheadS: 22.4, buffered: [before, behind], livePositionS: null })).toBe(
      22.4,
    );
  });

  it('is none where the media just grows, or its beginning is forgotten', () => {
    const hole = new Hole();
    hole.poll({ playheadS: 19.95, buffered: [before], livePositionS: 20 });
    expect(hole.poll({ playheadS: 20.3, buffered: [[0, 22]], livePositionS: 20 })).toBe(null);
    expect(hole.poll({ playheadS: 20.5, buffered: [[18, 22]], livePositionS: 20 })).toBe(null);
  });
});
