import { describe, expect, it } from 'vitest';
import { Playback, PLAYBACK_TIMES, type Command, type StreamState } from './playback';

/** A machine with its own clock, whose commands are collected. */
class Rig {
  now = 0;
  readonly playback: Playback;

  constructor(hasInfo = true) {
    this.playback = new Playback({ hasInfo, random: () => 0 });
    this.playback.handleStart(0);
  }

  commands(): Command[] {
    const commands: Command[] = [];
    for (let next = this.playback.pollCommand(); next; next = this.playback.pollCommand()) {
      commands.push(next);
    }
    return commands;
  }

  /** Lets time pass, calling at each timeout as the shell does; gives the commands of that time. */
  wait(ms: number): Command[] {
    const until = this.now + ms;
    const commands: Command[] = [];
    while (this.playback.pollTimeout() <= until) {
      this.now = Math.max(this.now, this.playback.pollTimeout());
      this.playback.handleTimeout(this.now);
      commands.push(...this.commands());
    }
    this.now = until;
    return commands;
  }

  /** Plays on for a while. */
  play(ms: number): Command[] {
    const commands: Command[] = [];
    for (let passed = 0; passed < ms; passed += 250) {
      commands.push(...this.wait(250));
      this.playback.handleProgress(this.now);
    }
    return [...commands, ...this.commands()];
  }

  info(state: StreamState, broadcast = 1): void {
    this.playback.handleInfo({ kind: 'stream', state, broadcast }, this.now);
  }

  unreachable(): void {
    this.playback.handleInfo({ kind: 'unreachable' }, this.now);
  }

  get phase(): string {
    return this.playback.phase;
  }
}

function playingRig(): Rig {
  const rig = new Rig();
  rig.info('live');
  rig.playback.handleOpened(0);
  rig.play(1_000);
  rig.commands();
  return rig;
}

describe('starting', () => {
  it('opens the stream at once, without waiting for its description', () => {
    const rig = new Rig();
    expect(rig.commands()).toEqual(['open', 'ask-info']);
    expect(rig.phase).toBe('loading');
  });

  it('plays as soon as the picture moves', () => {
    const rig = new Rig();
    rig.playback.handleProgress(100);
    expect(rig.phase).toBe('playing');
  });

  it('waits for a publisher and opens when there is one', () => {
    const rig = new Rig();
    rig.info('waiting');
    expect(rig.phase).toBe('waiting');
    expect(rig.commands()).toContain('close');
    expect(rig.wait(3_000)).toContain('ask-info');
    rig.info('live');
    expect(rig.commands()).toContain('open');
  });

  it('says that there is no such stream, and still notices when it is made', () => {
    const rig = new Rig();
    rig.playback.handleFault('not-found', 10);
    rig.playback.handleInfo({ kind: 'missing' }, 20);
    expect(rig.phase).toBe('missing');
    rig.commands();
    expect(rig.wait(20_000)).toContain('ask-info');
    rig.info('live');
    expect(rig.commands()).toContain('open');
  });

  it('counts a playlist that is not there as waiting when there is no description to ask', () => {
    const rig = new Rig(false);
    rig.playback.handleFault('not-found', 0);
    expect(rig.phase).toBe('waiting');
    expect(rig.wait(5_000)).toContain('open');
  });

  it('gives up only where the browser cannot play at all', () => {
    const rig = new Rig();
    rig.playback.handleFault('unsupported', 0);
    expect(rig.phase).toBe('failed');
  });
});

describe('interruptions', () => {
  it('shows a standstill as reconnecting and asks how the stream is', () => {
    const rig = playingRig();
    expect(rig.wait(PLAYBACK_TIMES.stallMs)).toContain('ask-info');
    expect(rig.phase).toBe('reconnecting');
  });

  it('leaves a source alone while the publisher is away', () => {
    const rig = playingRig();
    rig.wait(3_000);
    rig.info('grace');
    const commands = new Set<Command>();
    for (let second = 0; second < 60; second += 1) {
      for (const command of rig.wait(1_000)) commands.add(command);
      rig.info('grace');
    }
    expect([...commands]).toEqual(['ask-info']);
    expect(rig.phase).toBe('reconnecting');
    rig.playback.handleProgress(rig.now);
    expect(rig.phase).toBe('playing');
  });

  it('tries stronger remedies when the stream is live but the picture stands', () => {
    const rig = playingRig();
    const remedies: Command[] = [];
    for (let second = 0; second < 9; second += 1) {
      remedies.push(...rig.wait(1_000).filter((command) => command !== 'ask-info'));
      rig.info('live');
    }
    expect(remedies).toEqual(['load', 'seek-live', 'open']);
  });

  it('gives a slow connection time, as long as media arrives and there is hope', () => {
    const rig = playingRig();
    const at: number[] = [];
    for (let second = 0; second < 30; second += 1) {
      if (rig.wait(1_000).includes('load')) at.push(second);
      rig.playback.handleData(rig.now);
      rig.info('live');
    }
    expect(at).toHaveLength(1);
    expect(at[0]).toBeGreaterThan(13);
  });

  it('opens afresh more and more seldom', () => {
    const rig = playingRig();
    const at: number[] = [];
    for (let second = 0; second < 120; second += 1) {
      if (rig.wait(1_000).includes('open')) at.push(second);
      rig.info('live');
    }
    const pauses = at.slice(1).map((second, i) => second - (at[i] ?? 0));
    expect(pauses.slice(0, 3)).toEqual([3, 6, 12]);
    expect(Math.max(...pauses)).toBe(24);
  });

  it('loads again soon after a network fault, with growing pauses', () => {
    const rig = playingRig();
    const pauses: number[] = [];
    for (let i = 0; i < 5; i += 1) {
      rig.playback.handleFault('network', rig.now);
      rig.unreachable();
      rig.commands();
      const from = rig.now;
      while (!rig.commands().some((command) => command === 'load' || command === 'open')) {
        rig.now += 50;
        rig.playback.handleTimeout(rig.now);
        if (rig.now - from > 60_000) throw new Error('never tried again');
      }
      pauses.push(rig.now - from);
    }
    expect(pauses).toEqual([300, 600, 1_200, 2_000, 2_000]);
  });

  it('opens afresh at every fourth fault in a row', () => {
    const rig = playingRig();
    const tries: Command[] = [];
    for (let i = 0; i < 4; i += 1) {
      rig.playback.handleFault('network', rig.now);
      tries.push(...rig.wait(2_500).filter((command) => command === 'load' || command === 'open'));
    }
    expect(tries).toEqual(['load', 'load', 'load', 'open']);
  });

  it('keeps trying through minutes without a broadcaster and plays when it is back', () => {
    const rig = playingRig();
    let tries = 0;
    for (let second = 0; second < 300; second += 1) {
      rig.unreachable();
      rig.playback.handleFault('network', rig.now);
      tries += rig.wait(1_000).filter((command) => command !== 'ask-info').length;
    }
    expect(rig.phase).toBe('reconnecting');
    expect(tries).toBeGreaterThan(100);
    rig.info('live');
    rig.playback.handleProgress(rig.now);
    expect(rig.phase).toBe('playing');
  });

  it('rebuilds the decoder for a media fault, and everything for a second one', () => {
    const rig = playingRig();
    rig.playback.handleFault('media', rig.now);
    expect(rig.wait(1_000)).toContain('recover');
    rig.playback.handleFault('media', rig.now);
    expect(rig.wait(1_000)).toContain('open');
  });

  it('opens afresh when the playlists contradict themselves', () => {
    const rig = playingRig();
    rig.playback.handleFault('broken', rig.now);
    expect(rig.wait(1_000)).toContain('open');
  });

  it('does not take a pause for an interruption', () => {
    const rig = playingRig();
    rig.playback.handlePaused(true, rig.now);
    const commands = rig.wait(60_000);
    expect(rig.phase).toBe('playing');
    expect(commands.every((command) => command === 'ask-info')).toBe(true);
    rig.playback.handlePaused(false, rig.now);
    rig.wait(PLAYBACK_TIMES.stallMs - 1);
    expect(rig.phase).toBe('playing');
  });

  it('goes to the live edge after the computer slept', () => {
    const rig = playingRig();
    rig.playback.handleWake(3_600_000);
    expect(rig.commands()).toEqual(['ask-info', 'load', 'seek-live']);
  });
});

describe('the end', () => {
  it('plays what is buffered before it says so', () => {
    const rig = playingRig();
    rig.playback.handleEndList(rig.now);
    expect(rig.phase).toBe('playing');
    rig.playback.handleVideoEnded();
    expect(rig.phase).toBe('ended');
    expect(rig.playback.replayable).toBe(true);
  });

  it('is noticed when it comes during an interruption', () => {
    const rig = playingRig();
    rig.wait(3_000);
    rig.playback.handleEndList(rig.now);
    rig.wait(PLAYBACK_TIMES.stallMs);
    rig.playback.handleVideoEnded();
    expect(rig.phase).toBe('ended');
  });

  it('does not start playing when opened afterwards, but offers what is left', () => {
    const rig = new Rig();
    rig.info('ended');
    rig.playback.handleOpened(0);
    rig.commands();
    rig.playback.handleEndList(0);
    expect(rig.commands()).toEqual(['hold']);
    expect(rig.phase).toBe('ended');
    rig.playback.handleReplay(0);
    expect(rig.commands()).toEqual(['replay']);
    expect(rig.phase).toBe('playing');
    expect(rig.playback.replaying).toBe(true);
  });

  it('offers no replay when nothing is left', () => {
    const rig = new Rig();
    rig.info('ended');
    rig.playback.handleFault('not-found', 0);
    expect(rig.phase).toBe('ended');
    expect(rig.playback.replayable).toBe(false);
  });

  it('is not the last word: a new broadcast opens by itself', () => {
    const rig = playingRig();
    rig.playback.handleEndList(rig.now);
    rig.playback.handleVideoEnded();
    rig.info('ended', 1);
    rig.commands();
    expect(rig.wait(10_000)).toContain('ask-info');
    rig.info('live', 2);
    expect(rig.commands()).toContain('open');
    rig.playback.handleProgress(rig.now);
    expect(rig.phase).toBe('playing');
  });
});

describe('any history', () => {
  /** A small generator, so that a failing run can be repeated from its seed. */
  function dice(seed: number): (sides: number) => number {
    let state = seed;
    return (sides) => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return Math.floor((state / 2 ** 32) * sides);
    };
  }

  const STATES: StreamState[] = ['waiting', 'live', 'grace', 'restarting', 'failed', 'ended'];

  it('always has a next timeout, and plays once the stream is live and moves', () => {
    for (let seed = 1; seed <= 500; seed += 1) {
      const roll = dice(seed);
      const rig = new Rig();
      for (let step = 0; step < 60; step += 1) {
        rig.wait(roll(4_000));
        const happenings: (() => void)[] = [
          () => rig.playback.handleProgress(rig.now),
          () => rig.info(STATES[roll(STATES.length)] ?? 'live', roll(3)),
          () => rig.unreachable(),
          () => rig.playback.handleInfo({ kind: 'missing' }, rig.now),
          () => rig.playback.handleFault('network', rig.now),
          () => rig.playback.handleFault('not-found', rig.now),
          () => rig.playback.handleFault('media', rig.now),
          () => rig.playback.handleFault('broken', rig.now),
          () => rig.playback.handleOpened(rig.now),
          () => rig.playback.handleEndList(rig.now),
          () => rig.playback.handleVideoEnded(),
          () => rig.playback.handleWake(rig.now),
          () => rig.playback.handlePaused(roll(2) === 0, rig.now),
          () => rig.playback.handleReplay(rig.now),
        ];
        happenings[roll(happenings.length)]?.();
        expect(rig.playback.pollTimeout(), `seed ${seed}`).toBeLessThan(Infinity);
      }
      // From here on all is well with the stream: a new broadcast is on air.
      rig.playback.handlePaused(false, rig.now);
      rig.commands();
      let opened = rig.phase === 'playing' || rig.phase === 'reconnecting';
      for (let second = 0; second < 30; second += 1) {
        rig.info('live', 99);
        opened ||= rig.commands().includes('open');
        opened ||= rig.wait(1_000).includes('open');
      }
      rig.playback.handleProgress(rig.now);
      expect(opened, `seed ${seed}: opened`).toBe(true);
      expect(rig.phase, `seed ${seed}`).toBe('playing');
    }
  });
});
