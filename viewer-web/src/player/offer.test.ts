import { beforeEach, describe, expect, it } from 'vitest';
import { Offer } from './offer';

const LISTED = [
  { id: 'source', height: 1080 },
  { id: '720p', height: 720 },
  { id: '480p', height: 480 },
  { id: '360p', height: 360 },
];
const ALL = LISTED.map(({ id }) => id);
const without = (gone: string): string[] => ALL.filter((id) => id !== gone);

let offer: Offer;
beforeEach(() => {
  offer = new Offer();
  offer.handleListed(LISTED);
});

describe('a paused quality', () => {
  it('is replaced by the next lower one, the lowest by the next higher one', () => {
    offer.handleGone('720p', 0);
    expect(offer.insteadOf('720p')).toBe('480p');
    offer.handleGone('360p', 0);
    expect(offer.insteadOf('360p')).toBe('480p');
    offer.handleGone('480p', 0);
    expect(offer.insteadOf('480p')).toBe('source');
    offer.handleGone('source', 0);
    expect(offer.insteadOf('source')).toBeNull();
  });

  it('is replaced by one that is made rather than by one that sleeps', () => {
    offer.handleMade(['source', '360p'], 0);
    offer.handleGone('720p', 0);
    expect(offer.insteadOf('720p')).toBe('360p');
  });

  it('can be one that the playlist never listed', () => {
    expect(offer.insteadOf('540p')).toBe('480p');
    expect(offer.insteadOf('nonsense')).toBeNull();
    expect(offer.has('540p')).toBe(false);
    offer.handleGone('540p', 0);
    expect(offer.pollTimeout()).toBe(Infinity);
  });

  it('is looked for more often while there is no other', () => {
    for (const id of ALL) offer.handleGone(id, 0);
    expect(offer.pollTimeout()).toBe(1_000);
    offer.handleLook(1_000);
    expect(offer.pollTimeout()).toBe(2_000);
    offer.handleMaster(['360p']);
    offer.handleLook(2_000);
    expect(offer.pollTimeout()).toBeGreaterThan(4_000);
  });

  it('is back once the multivariant playlist lists it again', () => {
    offer.handleGone('720p', 0);
    offer.handleMaster(without('720p'));
    expect(offer.isPaused('720p')).toBe(true);
    offer.handleMaster(ALL);
    expect(offer.has('720p')).toBe(true);
  });

  it('is found out by looking when info.json leaves it out', () => {
    offer.handleMade(without('720p'), 500);
    expect(offer.pollTimeout()).toBe(500);
    offer.handleLook(500);
    offer.handleMaster(without('720p'));
    expect(offer.isPaused('720p')).toBe(true);
  });
});

describe('a picked quality that was not listed', () => {
  it('is looked for until it is, and then worth opening afresh', () => {
    offer.handlePicked('540p', 100);
    expect(offer.pollTimeout()).toBe(100);
    offer.handleLook(100);
    offer.handleMaster(ALL);
    expect([offer.isOutdated, offer.pollTimeout()]).toEqual([false, 3_100]);
    offer.handleMaster([...ALL, '540p']);
    expect([offer.isOutdated, offer.pollTimeout()]).toEqual([true, Infinity]);
    offer.handlePicked('480p', 200);
    expect(offer.isOutdated).toBe(false);
  });

  it('is not looked for when its name means nothing', () => {
    offer.handlePicked('nonsense', 0);
    expect(offer.pollTimeout()).toBe(Infinity);
  });
});

describe('looking', () => {
  it('is not done while nothing is missing', () => {
    offer.handleMade(ALL, 0);
    expect(offer.pollTimeout()).toBe(Infinity);
    offer.handleGone('480p', 0);
    offer.handleMaster(ALL);
    expect(offer.pollTimeout()).toBe(Infinity);
  });

  it('becomes rarer, down to every 10 s, and never stops while something is missing', () => {
    offer.handleGone('480p', 0);
    let now = 0;
    let pause = 0;
    for (let i = 0; i < 20; i += 1) {
      pause = offer.pollTimeout() - now;
      now = offer.pollTimeout();
      offer.handleLook(now);
      offer.handleMaster(without('480p'));
    }
    expect(pause).toBe(10_000);
  });

  it('is done at once when info.json says that something is back', () => {
    offer.handleMade(without('480p'), 0);
    offer.handleLook(0);
    offer.handleMaster(without('480p'));
    offer.handleMade(ALL, 1_000);
    expect(offer.pollTimeout()).toBe(1_000);
  });

  it('believes no playlist of other addresses', () => {
    offer.handleMaster(['low', 'high']);
    expect(ALL.every((id) => offer.has(id))).toBe(true);
  });
});

describe('a sleeping quality', () => {
  it('can be had, and is warm for a while after it was asked for', () => {
    offer.handleMade(without('480p'), 0);
    offer.handleMaster(ALL);
    expect([offer.has('480p'), offer.isMade('480p')]).toEqual([true, false]);
    expect(offer.isWarm('480p', 0)).toBe(false);
    offer.handleAnswered('480p', 1_000);
    expect(offer.isWarm('480p', 8_900)).toBe(true);
    expect(offer.isWarm('480p', 9_000)).toBe(false);
  });

  it('that does not wake is left alone for a while', () => {
    offer.handleRefused('480p', 0);
    expect(offer.mayAsk('480p', 4_900)).toBe(false);
    expect(offer.mayAsk('480p', 5_000)).toBe(true);
    offer.handleBegun('480p', 5_000);
    expect([offer.mayAsk('480p', 5_300), offer.mayAsk('480p', 5_400)]).toEqual([false, true]);
    expect(offer.isWarm('480p', 5_400)).toBe(false);
  });
});
