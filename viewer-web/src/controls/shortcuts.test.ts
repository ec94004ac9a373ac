import { describe, expect, it } from 'vitest';
import { actionFor, SHORTCUTS } from './shortcuts';

const press = { modified: false, focus: 'other' } as const;

describe('actionFor', () => {
  it('knows every key that the help lists', () => {
    const keys: Record<string, string> = {
      Space: ' ',
      '↑': 'ArrowUp',
      '↓': 'ArrowDown',
      '←': 'ArrowLeft',
      '→': 'ArrowRight',
    };
    for (const { keys: names, action } of SHORTCUTS) {
      for (const name of names) {
        expect(actionFor({ ...press, key: keys[name] ?? name })).toBe(action);
      }
    }
  });

  it('works with capitals, as with caps lock', () => {
    expect(actionFor({ ...press, key: 'M' })).toBe('toggle-mute');
  });

  it('leaves keys to what has the focus', () => {
    expect(actionFor({ ...press, key: 'k', focus: 'text' })).toBeNull();
    expect(actionFor({ ...press, key: ' ', focus: 'button' })).toBeNull();
    expect(actionFor({ ...press, key: 'ArrowLeft', focus: 'slider' })).toBeNull();
    expect(actionFor({ ...press, key: 'ArrowDown', focus: 'menu' })).toBeNull();
    expect(actionFor({ ...press, key: 'k', focus: 'button' })).toBe('toggle-play');
  });

  it('leaves combinations to the browser', () => {
    expect(actionFor({ ...press, key: 'f', modified: true })).toBeNull();
  });
});
